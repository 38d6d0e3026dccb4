"""Draw maps over the images that they explain, pixel for pixel, and save them as files.

A map has a colour map ordered by lightness (inferno) and is more opaque where it is higher. Where it is low the image
stays, darker and greyer, so that brightness means a high value.

Limit: a map is scaled by its own maximum. So brightness compares positions within a picture, never two pictures.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from interp_core.errors import ContractError, StoreError, one_line

# Images and maps of any type of number.
Array = NDArray[Any]

HEAT = "inferno"
BRIGHTNESS, GREY = 0.75, 0.5  # brightness of the image, and the share of grey in it
OPACITY, EXPONENT = 0.72, 0.75  # opacity at the maximum, and the exponent with which it rises
MAX_NAME_LENGTH = 60


def to_display(
    images: Tensor, *, mean: Sequence[float] | float | None = None, std: Sequence[float] | float | None = None
) -> NDArray[np.float32]:
    """Convert images for display.

    The result is (N, H, W, 3) float32 in [0, 1].

    Args:
        images: (N, C, H, W) floating point. One channel becomes grey. Of two or more than three, the mean is shown.
        mean: mean of the normalisation, one number or one per channel; with `std` the normalisation is inverted.
        std: standard deviation of the normalisation. Without both, the 1st to 99th percentile of each image, over all
            channels together, is stretched to [0, 1]: colours keep their order, not their exact values.

    Raises:
        ContractError: another shape or type, NaN or infinite values, or one of mean and std alone.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or 0 in images.shape[1:]:
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ContractError(f"to_display takes floating point images (N, C, H, W), got {got}")
    values = _to_array(images)
    if not np.isfinite(values).all():
        raise ContractError("images hold NaN or infinite values: they cannot be shown")
    values = _stretch(values) if mean is None and std is None else _denormalise(values, mean, std)
    if values.shape[1] != 3:
        values = values.mean(1, keepdims=True).repeat(3, axis=1)
    return values.clip(0, 1).transpose(0, 2, 3, 1).astype(np.float32)


def overlay(image: Array, values: Array) -> NDArray[np.uint8]:
    """Draw a map in colours over an image, (H, W, 3) uint8.

    Args:
        image: (H, W, 3) in [0, 1].
        values: map (H, W), finite. It is scaled by its maximum, and negative values count as 0.

    Raises:
        ContractError: shapes that do not fit, NaN or infinite values.
    """
    from matplotlib import colormaps

    pixels, values = _to_array(image), _to_array(values)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.shape[:2] != values.shape:
        raise ContractError(f"overlay takes (H, W, 3) and (H, W), got {pixels.shape} and {values.shape}")
    if not np.isfinite(values).all():
        raise ContractError("the map holds NaN or infinite values: it cannot be shown")
    peak = values.max(initial=0)
    strength = values.clip(0) / (peak if peak > 0 else 1)
    grey = pixels.mean(2, keepdims=True)
    base = BRIGHTNESS * ((1 - GREY) * pixels + GREY * grey)
    alpha = OPACITY * strength[..., None] ** EXPONENT
    # The darkest quarter of the colour map would look like a shadow in the image.
    colours = np.asarray(colormaps[HEAT](0.25 + 0.75 * strength), dtype=float)[..., :3]
    blend: NDArray[np.float64] = (1 - alpha) * base + alpha * colours
    return (255 * blend.clip(0, 1)).round().astype(np.uint8)


def save_overlays(folder: Path | str, images: Array, maps: Tensor, names: Sequence[str]) -> list[Path]:
    """Write one overlay per image as FOLDER/NAME.png.

    It has the image's size. Existing files are replaced.

    Args:
        folder: created if missing.
        images: (N, H, W, 3) in [0, 1], see `to_display`.
        maps: (N, 1, H, W).
        names: N file names without suffix. Letters, digits, ".", "-" and "_" stay, and equal names are numbered.

    Returns:
        The paths of the files.

    Raises:
        ContractError: numbers or shapes that do not fit, a map with NaN or infinite values.
        StoreError: the folder cannot be written.
    """
    from PIL import Image

    if not len(images) == len(maps) == len(names) or maps.ndim != 4 or maps.shape[1] != 1:
        raise ContractError(
            f"save_overlays takes as many images as names and maps (N, 1, H, W), got {len(images)} images, "
            f"{len(names)} names and maps {tuple(maps.shape)}"
        )
    paths = [Path(folder) / f"{name}.png" for name in file_names(names)]
    pictures = [overlay(image, values[0]) for image, values in zip(images, _to_array(maps), strict=True)]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, picture in zip(paths, pictures, strict=True):
            Image.fromarray(picture).save(path)
    except OSError as error:
        raise StoreError(f"cannot write overlays to {folder}: {one_line(error)}") from error
    return paths


def file_names(names: Sequence[str]) -> list[str]:
    """Return unique names that every file system takes, without suffix.

    They are unique even if case is ignored.

    >>> file_names(["a/b", "A b", "a_b"])
    ['a_b', 'A_b-2', 'a_b-3']
    """
    used: set[str] = set()
    unique_names = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", str(name)))
        plain = plain[:MAX_NAME_LENGTH].strip("._ ") or "image"
        candidate, number = plain, 1
        while candidate.casefold() in used:
            number += 1
            candidate = f"{plain}-{number}"
        used.add(candidate.casefold())
        unique_names.append(candidate)
    return unique_names


def _to_array(values: Tensor | Array) -> NDArray[np.float64]:
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array.astype(np.float64)


def _stretch(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.percentile(values, (1, 99), axis=(1, 2, 3), keepdims=True)
    is_flat = high <= low
    return np.where(is_flat, 0.5, (values - low) / np.where(is_flat, 1, high - low))


def _denormalise(values: NDArray[np.float64], mean: Any, std: Any) -> NDArray[np.float64]:
    if mean is None or std is None:
        raise ContractError("to_display takes mean and std together, or neither")
    means, deviations = (np.asarray(numbers, dtype=float).reshape(-1) for numbers in (mean, std))
    if any(len(numbers) not in (1, values.shape[1]) for numbers in (means, deviations)):
        raise ContractError(f"mean and std take one number or one per channel ({values.shape[1]}), got {mean}, {std}")
    pixels: NDArray[np.float64] = values * deviations[:, None, None] + means[:, None, None]
    return pixels

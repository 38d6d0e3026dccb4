"""Maps laid over the photographs they explain, pixel for pixel, and saved as files.

A map is drawn in a colour map ordered by lightness (inferno), the more opaque the higher it is; where it is low the
photograph stays, darker and greyer, so that brightness means evidence.

Limit: a map is scaled by its own maximum, so brightness compares places within a picture, never two pictures.
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

from interp_core.errors import ContractError, StoreError

HEAT = "inferno"
PHOTOGRAPH, GREYED = 0.75, 0.5  # what stays of the photograph's brightness, and the share of grey in it
OPAQUE, RISE = 0.72, 0.75  # opacity at the maximum, and the exponent it rises with
LONGEST_NAME = 60


def to_display(
    images: Tensor, *, mean: Sequence[float] | float | None = None, std: Sequence[float] | float | None = None
) -> NDArray[np.float32]:
    """Images as a screen takes them, (N, H, W, 3) float32 in [0, 1].

    Args:
        images: (N, C, H, W) floating point. One channel becomes grey; of two or more than three the mean is shown.
        mean: of the normalisation, one number or one per channel, with `std`: undone exactly.
        std: of the normalisation. Without both, the 1st to 99th percentile of each image, over all its channels
            alike, is stretched to [0, 1]: colours keep their order, not their exact values.

    Raises:
        ContractError: another shape or type, NaN or infinite values, or one of mean and std alone.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or 0 in images.shape[1:]:
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ContractError(f"to_display takes floating point images (N, C, H, W), got {got}")
    values = _array(images)
    if not np.isfinite(values).all():
        raise ContractError("images hold NaN or infinite values: they cannot be shown")
    values = _stretched(values) if mean is None and std is None else _undone(values, mean, std)
    if values.shape[1] != 3:
        values = values.mean(1, keepdims=True).repeat(3, axis=1)
    return values.clip(0, 1).transpose(0, 2, 3, 1).astype(np.float32)


def overlay(image: NDArray, values: NDArray) -> NDArray[np.uint8]:
    """A map in colours over a photograph, (H, W, 3) uint8.

    Args:
        image: (H, W, 3) in [0, 1].
        values: map (H, W), finite; scaled by its maximum, negative values count as 0.

    Raises:
        ContractError: shapes that do not fit, NaN or infinite values.
    """
    from matplotlib import colormaps

    photograph, values = _array(image), _array(values)
    if photograph.ndim != 3 or photograph.shape[2] != 3 or photograph.shape[:2] != values.shape:
        raise ContractError(f"overlay takes (H, W, 3) and (H, W), got {photograph.shape} and {values.shape}")
    if not np.isfinite(values).all():
        raise ContractError("the map holds NaN or infinite values: it cannot be shown")
    peak = values.max(initial=0)
    strength = values.clip(0) / (peak if peak > 0 else 1)
    grey = photograph.mean(2, keepdims=True)
    base = PHOTOGRAPH * ((1 - GREYED) * photograph + GREYED * grey)
    alpha = OPAQUE * strength[..., None] ** RISE
    # From a quarter of the colour map on: its black would read as a shadow in the photograph.
    colours = np.asarray(colormaps[HEAT](0.25 + 0.75 * strength))[..., :3]
    return (255 * ((1 - alpha) * base + alpha * colours).clip(0, 1)).round().astype(np.uint8)


def save_overlays(folder: Path | str, images: NDArray, maps: Tensor, names: Sequence[str]) -> list[Path]:
    """Write one overlay per image as FOLDER/NAME.png, exactly as large as the image; existing files are replaced.

    Args:
        folder: made if it is missing.
        images: (N, H, W, 3) in [0, 1], see `to_display`.
        maps: (N, 1, H, W).
        names: N file names without ending; letters, digits, ".", "-" and "_" are kept, equal names numbered.

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
    pictures = [overlay(image, values[0]) for image, values in zip(images, _array(maps), strict=True)]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, picture in zip(paths, pictures, strict=True):
            Image.fromarray(picture).save(path)
    except OSError as error:
        raise StoreError(f"cannot write overlays to {folder}: {error}") from error
    return paths


def file_names(names: Sequence[str]) -> list[str]:
    """Names that every file system takes, each once even where capitals do not count, without ending."""
    taken: set[str] = set()
    kept = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", str(name)))[:LONGEST_NAME].strip("._ ") or "image"
        candidate, number = plain, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{plain}-{number}"
        taken.add(candidate.casefold())
        kept.append(candidate)
    return kept


def _array(values: Tensor | NDArray) -> NDArray[np.float64]:
    return (values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values)).astype(float)


def _stretched(values: NDArray) -> NDArray:
    low, high = np.percentile(values, (1, 99), axis=(1, 2, 3), keepdims=True)
    flat = high <= low
    return np.where(flat, 0.5, (values - low) / np.where(flat, 1, high - low))


def _undone(values: NDArray, mean: Any, std: Any) -> NDArray:
    if mean is None or std is None:
        raise ContractError("to_display takes mean and std together, or neither")
    pair = [np.asarray(one, dtype=float).reshape(-1) for one in (mean, std)]
    if any(len(one) not in (1, values.shape[1]) for one in pair):
        raise ContractError(f"mean and std take one number or one per channel ({values.shape[1]}), got {mean}, {std}")
    return values * pair[1][:, None, None] + pair[0][:, None, None]

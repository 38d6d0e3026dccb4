"""Cut backgrounds from the photographs and textures in the wheels of scikit-image and scikit-learn.

Photographs with text or digits (page, text, clock, coins) are not used. The splits share no photograph; the two
motorcycle photographs show the same scene and are in one split. Nothing is downloaded or written.
Known limit: JPEG decoders may differ by a grey level between builds of Pillow; one installation always gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import skimage
import sklearn
from PIL import Image

from interp_core.datasets.records import SplitName
from interp_core.errors import InterpError

PHOTOGRAPHS: dict[SplitName, tuple[str, ...]] = {
    "train": (
        "astronaut.png",
        "brick.png",
        "cell.png",
        "china.jpg",
        "coffee.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "moon.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
    ),
    "val": ("flower.jpg", "grass.png", "rocket.jpg"),
    "test": ("camera.png", "chelsea.png", "gravel.png", "retina.jpg"),
}
"""File names per split. Each split has colours and textures."""

# A crop shows between these shares of the shorter side: less is a blank patch, more is the same view each time.
WIDEST, NARROWEST = 0.8, 0.12
LEVEL_STEP = 2**0.5

Pyramid = tuple[np.ndarray, ...]


def photograph_path(name: str) -> Path:
    """Return the path of a photograph in the installed wheels.

    Raises:
        InterpError: no wheel has it.
    """
    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise InterpError(
        f"background photograph {name!r} is in neither {folders[0]} nor {folders[1]}: reinstall both packages"
    )


def level_sides(shorter: int, size: int) -> list[int]:
    """Return the shorter sides of the levels of a pyramid, in pixels, finest last.

    Args:
        shorter: shorter side of the photograph.
        size: side of the crops.
    """
    sides = [round(size / WIDEST)]
    while (following := round(sides[-1] * LEVEL_STEP)) <= min(shorter, size / NARROWEST):
        sides.append(following)
    return sides


def pyramid(image: Image.Image, size: int) -> Pyramid:
    """Return a photograph at several scales, (3, h, w) uint8 each, at least `size` / 0.8 on the shorter side.

    Levels below the resolution of the photograph are area averages, so that wide crops are not aliased. A photograph
    smaller than the coarsest level is enlarged to it.
    """
    shorter = min(image.size)
    levels = []
    for side in level_sides(shorter, size):
        shape = (round(image.width * side / shorter), round(image.height * side / shorter))
        # Pillow's box filter is uneven at fractional ratios; its Hamming filter is even.
        filter_ = Image.Resampling.HAMMING if side <= shorter else Image.Resampling.BICUBIC
        levels.append(np.ascontiguousarray(np.asarray(image.resize(shape, filter_)).transpose(2, 0, 1)))
    return tuple(levels)


@lru_cache(maxsize=6)
def pyramids(split: SplitName, size: int) -> tuple[Pyramid, ...]:
    """Load the pyramids of a split, in the order of `PHOTOGRAPHS[split]`, for crops of side `size` pixels.

    Raises:
        InterpError: a photograph is missing from the wheels.
    """
    loaded = []
    for name in PHOTOGRAPHS[split]:
        with Image.open(photograph_path(name)) as image:
            loaded.append(pyramid(image.convert("RGB"), size))
    return tuple(loaded)


def _pick(unit: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """Convert uniform numbers in [0, 1) to integers in 0..count-1."""
    return np.asarray(unit * count).astype(np.int64)


def crops(bank: Sequence[Pyramid], unit: np.ndarray, size: int) -> np.ndarray:
    """Cut crops, uniformly over photographs, levels, positions and left-right flips.

    Args:
        bank: pyramids to cut from.
        unit: (n, 5) uniform numbers in [0, 1): photograph, level, top, left, flip.
        size: side of the crops in pixels.

    Returns:
        (n, 3, size, size) uint8.
    """
    photograph = _pick(unit[:, 0], len(bank))
    level = _pick(unit[:, 1], np.array([len(levels) for levels in bank])[photograph])
    out = np.empty((len(unit), 3, size, size), np.uint8)
    for p, i in np.unique(np.stack([photograph, level], 1), axis=0):
        rows = np.flatnonzero((photograph == p) & (level == i))
        views = np.lib.stride_tricks.sliding_window_view(bank[p][i], (size, size), axis=(1, 2))
        top, left = _pick(unit[rows, 2], views.shape[1]), _pick(unit[rows, 3], views.shape[2])
        out[rows] = views[:, top, left].swapaxes(0, 1)
    flip = unit[:, 4] < 0.5
    out[flip] = out[flip, :, :, ::-1]
    return out

"""Backgrounds: random crops of the photographs and textures that scikit-image and scikit-learn carry in their wheels.

Pictures with text or digits in them (page, text, clock, coins) are left out. The splits share no picture; the two
motorcycle pictures are two views of one scene and stay together. Nothing is downloaded and nothing is written.
Known limit: JPEG decoders may differ by a grey level between builds of Pillow; bytes are the same for one installation.
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

PICTURES: dict[SplitName, tuple[str, ...]] = {
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
"""File names per split: colour and texture in each."""

# A crop shows between these shares of a picture's shorter side: less is a blank patch, more is the same view each time.
WIDEST, NARROWEST = 0.8, 0.12
STEP = 2**0.5

Pyramid = tuple[np.ndarray, ...]


def picture_path(name: str) -> Path:
    """Where a picture lies in the installed wheels.

    Raises:
        InterpError: no wheel carries it.
    """
    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise InterpError(
        f"background picture {name!r} is in neither {folders[0]} nor {folders[1]}: reinstall both packages"
    )


def level_sides(shorter: int, size: int) -> list[int]:
    """Shorter sides of a pyramid's levels, in pixels, finest last.

    Args:
        shorter: the picture's own shorter side.
        size: side of the crops to be cut.
    """
    sides = [round(size / WIDEST)]
    while (following := round(sides[-1] * STEP)) <= min(shorter, size / NARROWEST):
        sides.append(following)
    return sides


def pyramid(image: Image.Image, size: int) -> Pyramid:
    """One picture at several scales, (3, h, w) uint8 each, all at least `size` / 0.8 on the shorter side.

    Levels below the picture's own resolution are area averages, so that wide crops are not aliased; a picture smaller
    than the coarsest level is enlarged to it.
    """
    shorter = min(image.size)
    levels = []
    for side in level_sides(shorter, size):
        shape = (round(image.width * side / shorter), round(image.height * side / shorter))
        # Pillow's plain box is uneven at fractional ratios; Hamming is the area filter that is not.
        filter_ = Image.Resampling.HAMMING if side <= shorter else Image.Resampling.BICUBIC
        levels.append(np.ascontiguousarray(np.asarray(image.resize(shape, filter_)).transpose(2, 0, 1)))
    return tuple(levels)


@lru_cache(maxsize=6)
def pyramids(split: SplitName, size: int) -> tuple[Pyramid, ...]:
    """The pyramids of a split's pictures, in the order of `PICTURES[split]`, for crops of side `size` pixels.

    Raises:
        InterpError: a picture is missing from the wheels.
    """
    loaded = []
    for name in PICTURES[split]:
        with Image.open(picture_path(name)) as image:
            loaded.append(pyramid(image.convert("RGB"), size))
    return tuple(loaded)


def _pick(unit: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """Integers in 0..count-1 from uniform numbers in [0, 1)."""
    return (unit * count).astype(np.int64)


def crops(bank: Sequence[Pyramid], unit: np.ndarray, size: int) -> np.ndarray:
    """Crops of pictures, uniform over pictures, levels, positions and left-right flips.

    Args:
        bank: pyramids to cut from.
        unit: (n, 5) uniform numbers in [0, 1): picture, level, top, left, flip.
        size: side of the crops in pixels.

    Returns:
        (n, 3, size, size) uint8.
    """
    picture = _pick(unit[:, 0], len(bank))
    level = _pick(unit[:, 1], np.array([len(levels) for levels in bank])[picture])
    out = np.empty((len(unit), 3, size, size), np.uint8)
    for p, i in np.unique(np.stack([picture, level], 1), axis=0):
        (which,) = np.nonzero((picture == p) & (level == i))
        views = np.lib.stride_tricks.sliding_window_view(bank[p][i], (size, size), axis=(1, 2))
        top, left = _pick(unit[which, 2], views.shape[1]), _pick(unit[which, 3], views.shape[2])
        out[which] = views[:, top, left].swapaxes(0, 1)
    flip = unit[:, 4] < 0.5
    out[flip] = out[flip, :, :, ::-1]
    return out

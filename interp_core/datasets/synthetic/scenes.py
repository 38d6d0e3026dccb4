"""Choose the objects of a scene, their positions and their colours from uniform random numbers.

Known limit: a fixed number of positions is tried, so in a crowded image an object may find none.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Scenes:
    """Content of n images before any pixel is drawn. The first object is the digit, the others are distractors.

    Attributes:
        targets: (n,) class of the digit.
        crop: (n, 5) uniform numbers that choose the background.
        gain: (n, 3) brightness of the background per channel.
        glyph: (n, m) row of each object in its bank.
        box: (n, m, 3) top, left and side of each object's square in pixels.
        shown: (n, m) bool, whether the object is drawn.
        colour: (n, m, 4) uniform numbers: hue, saturation, side of the contrast, amount of contrast.
        corner: (n, 2) top and left of the corner kept free, in pixels.
        tag: (n,) index of a tag colour drawn at random.
    """

    targets: np.ndarray
    crop: np.ndarray
    gain: np.ndarray
    glyph: np.ndarray
    box: np.ndarray
    shown: np.ndarray
    colour: np.ndarray
    corner: np.ndarray
    tag: np.ndarray

    def take(self, rows: slice) -> Scenes:
        """Return the scenes of some images."""
        return Scenes(*(getattr(self, f.name)[rows] for f in fields(self)))


def find_positions(
    sides: np.ndarray, corner: np.ndarray, tag: int, size: int, unit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find positions for squares that overlap neither each other nor a corner, by rejection in the given order.

    Args:
        sides: (n, m) sides in pixels, that of the digit first; at most 0.75 of `size`.
        corner: (n, 2) top and left of the corner kept free.
        tag: side of that corner.
        size: side of the image.
        unit: (m, n, tries, 2) uniform numbers, from which the tried positions are made.

    Returns:
        (n, m, 3) top, left and side, and (n, m) whether a position was found. For the first square there always is one.
    """
    n, m = sides.shape
    box, has_position = np.zeros((n, m, 3), np.int64), np.zeros((n, m), bool)
    occupied = [np.concatenate([corner, np.full((n, 1), tag)], 1)]
    for k in range(m):
        side = sides[:, k, None]
        tried = (unit[k] * (size - side + 1)[..., None]).astype(np.int64)
        free = np.all([_is_apart(tried, side, square) for square in occupied], axis=0)
        has_position[:, k] = free.any(1)
        box[:, k] = np.concatenate([tried[np.arange(n), free.argmax(1)], side], 1)
        if k == 0:
            # The corner opposite to the tag is free at every allowed size.
            box[:, 0, :2] = np.where(has_position[:, :1], box[:, 0, :2], np.where(corner == 0, size - side, 0))
            has_position[:, 0] = True
        occupied.append(np.where(has_position[:, k, None], box[:, k], 0))
    return box, has_position


def _is_apart(tried: np.ndarray, side: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Return whether squares at positions `tried` (n, t, 2), of side (n, 1), miss `square` (n, 3): (n, t) bool."""
    start, end = square[:, None, :2], square[:, None, :2] + square[:, None, 2:]
    return np.asarray(np.any((tried >= end) | (tried + side[..., None] <= start), axis=-1))


def brightness(rgb: np.ndarray) -> np.ndarray:
    """Return the luma (ITU-R BT.601, of gamma-encoded values) of colours (..., 3) in [0, 1]: (...) in [0, 1]."""
    red, green, blue = rgb[..., 0] * np.float32(0.299), rgb[..., 1] * np.float32(0.587), rgb[..., 2] * np.float32(0.114)
    return np.asarray(red + green + blue)


def paint(unit: np.ndarray, beneath: np.ndarray, contrast: float) -> np.ndarray:
    """Choose colours of random hue whose brightness differs from that of the background.

    Args:
        unit: (n, 4) uniform numbers: hue, saturation, lighter or darker, amount of contrast.
        beneath: (n,) brightness of the background, in [0, 1].
        contrast: minimum difference in brightness. If neither lighter nor darker has room for it, the end with more
            room is taken.

    Returns:
        (n, 3) float32 in [0, 1].
    """
    amount = contrast + 0.15 * unit[:, 3]
    has_both = (beneath >= amount) & (1 - beneath >= amount)
    lighter = np.where(has_both, unit[:, 2] < 0.5, beneath < 0.5)
    aim = np.clip(np.where(lighter, beneath + amount, beneath - amount), 0, 1)[:, None]
    hue = np.clip(np.abs((unit[:, :1] * 6 + np.array([0, 4, 2], np.float32)) % 6 - 3) - 1, 0, 1)
    colour = 1 - (0.5 + 0.5 * unit[:, 1:2]) * (1 - hue)
    level = brightness(colour)[:, None]
    shifted = np.where(aim > level, 1 - (1 - colour) * (1 - aim) / (1 - level), colour * aim / level)
    return np.asarray(shifted).astype(np.float32)

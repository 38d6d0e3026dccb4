"""What an image shows before it is drawn: objects, their places and their colours, as functions of uniform numbers.

Known limit: places are tried in a fixed number of throws, so that in a crowded image an object may find none.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Scenes:
    """What n images show, before any pixel is drawn. The first object of each is the digit, the others are distractors.

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

    def take(self, part: slice) -> Scenes:
        """Some of the images."""
        return Scenes(*(getattr(self, f.name)[part] for f in fields(self)))


def find_positions(
    sides: np.ndarray, corner: np.ndarray, tag: int, size: int, unit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places for squares that overlap neither each other nor a corner, by rejection in the order given.

    Args:
        sides: (n, m) sides in pixels, the digit's first; at most 0.75 of `size`.
        corner: (n, 2) top and left of the corner kept free.
        tag: side of that corner.
        size: side of the image.
        unit: (m, n, tries, 2) uniform numbers: the places tried.

    Returns:
        (n, m, 3) top, left and side, and (n, m) whether a place was found; it always is for the first.
    """
    n, m = sides.shape
    box, found = np.zeros((n, m, 3), np.int64), np.zeros((n, m), bool)
    taken = [np.concatenate([corner, np.full((n, 1), tag)], 1)]
    for k in range(m):
        side = sides[:, k, None]
        tried = (unit[k] * (size - side + 1)[..., None]).astype(np.int64)
        free = np.all([_apart(tried, side, other) for other in taken], axis=0)
        found[:, k] = free.any(1)
        box[:, k] = np.concatenate([tried[np.arange(n), free.argmax(1)], side], 1)
        if k == 0:
            # The corner across from the tag is free at every size allowed.
            box[:, 0, :2] = np.where(found[:, :1], box[:, 0, :2], np.where(corner == 0, size - side, 0))
            found[:, 0] = True
        taken.append(np.where(found[:, k, None], box[:, k], 0))
    return box, found


def _apart(tried: np.ndarray, side: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether squares at places tried (n, t, 2), of side (n, 1), miss another square (n, 3) per image: (n, t) bool."""
    start, end = other[:, None, :2], other[:, None, :2] + other[:, None, 2:]
    return ((tried >= end) | (tried + side[..., None] <= start)).any(-1)


def brightness(rgb: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601, of gamma-encoded values) of colours (..., 3) in [0, 1]: (...) in [0, 1]."""
    return rgb[..., 0] * np.float32(0.299) + rgb[..., 1] * np.float32(0.587) + rgb[..., 2] * np.float32(0.114)


def paint(unit: np.ndarray, beneath: np.ndarray, contrast: float) -> np.ndarray:
    """Colours of random hue whose brightness differs from the background's.

    Args:
        unit: (n, 4) uniform numbers: hue, saturation, lighter or darker, amount of contrast.
        beneath: (n,) brightness of the background, in [0, 1].
        contrast: least difference in brightness; where neither side has room for it, the roomier side's end is taken.

    Returns:
        (n, 3) float32 in [0, 1].
    """
    amount = contrast + 0.15 * unit[:, 3]
    either = (beneath >= amount) & (1 - beneath >= amount)
    lighter = np.where(either, unit[:, 2] < 0.5, beneath < 0.5)
    aim = np.clip(np.where(lighter, beneath + amount, beneath - amount), 0, 1)[:, None]
    hue = np.clip(np.abs((unit[:, :1] * 6 + np.array([0, 4, 2], np.float32)) % 6 - 3) - 1, 0, 1)
    colour = 1 - (0.5 + 0.5 * unit[:, 1:2]) * (1 - hue)
    own = brightness(colour)[:, None]
    return np.where(aim > own, 1 - (1 - colour) * (1 - aim) / (1 - own), colour * aim / own).astype(np.float32)

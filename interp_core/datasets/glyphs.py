"""The shapes pasted into scenes: scikit-learn's real handwritten digits, and scrambles of them that are no digit.

A glyph is a smooth height field in [0, 255]; its strokes are where the height is over `EDGE`, cut when it is drawn, so that edges are
sharp at any size. A scramble turns and moves the four quarters of a digit: the strokes stay, the class goes. Of several tries the one
farthest from every real digit of the split is kept, so that none is readable by accident.
Known limit: the data do not say who wrote a digit, so one writer may appear in several splits; no digit does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from interp_core.datasets.base import SPLITS, SplitName

CELLS = 8
PAD = 1
ZOOM = 6
BOX_CELLS = 8.5
EDGE = 0.45
TRIES = 24
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
# Its own constant, so that no digit changes split when a data set's seed does.
_SPLIT_SEED = 20_220_111


@dataclass(frozen=True)
class Glyphs:
    """The shapes of one split.

    Attributes:
        digits: (m, h, h) uint8 heights of real digits.
        classes: (m,) int64, their classes.
        scrambles: (m, h, h) uint8 heights; the i-th is made of the i-th digit.
        source: (m,) int64 row of each digit in scikit-learn's table.
    """

    digits: np.ndarray
    classes: np.ndarray
    scrambles: np.ndarray
    source: np.ndarray


def split_rows(classes: np.ndarray) -> dict[SplitName, np.ndarray]:
    """Rows of each split, sorted: 60 / 20 / 20 % of each class, always the same.

    Args:
        classes: (m,) class of each row.
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    parts: dict[SplitName, list[np.ndarray]] = {name: [] for name in SPLITS}
    bounds = np.cumsum([_SHARES[name] for name in SPLITS])[:-1]
    for label in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == label))
        for name, part in zip(SPLITS, np.split(rows, np.round(bounds * len(rows)).astype(int)), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(part)) for name, part in parts.items()}


def scramble(digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Digits with their quarters turned and moved, each quarter to another place.

    Args:
        digits: (m, 8, 8).
        rng: source of the moves.
    """
    m, half = len(digits), CELLS // 2
    quarters = digits.reshape(m, 2, half, 2, half).swapaxes(2, 3).reshape(m, 4, half, half)
    # Cyclic shifts of a random order are derangements, and hold for any order of the four places.
    order = rng.permuted(np.tile(np.arange(4), (m, 1)), axis=1)
    moved = np.empty_like(quarters)
    np.put_along_axis(moved, order[..., None, None], _turn(quarters, order, rng), axis=1)
    return moved.reshape(m, 2, 2, half, half).swapaxes(2, 3).reshape(m, CELLS, CELLS)


def _turn(quarters: np.ndarray, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The quarter that goes to each place of `order`, turned by a random multiple of 90 degrees."""
    taken = np.take_along_axis(quarters, np.roll(order, 1, axis=1)[..., None, None], axis=1)
    turns = rng.integers(0, 4, taken.shape[:2])
    return np.choose(turns[..., None, None], [np.rot90(taken, k, (2, 3)) for k in range(4)])


def unlike(digits: np.ndarray, rng: np.random.Generator, tries: int = TRIES) -> np.ndarray:
    """For each digit, the scramble out of `tries` that is farthest from its nearest real digit.

    Args:
        digits: (m, 8, 8) whole numbers, so that distances are exact and ties fall alike on every machine.
        rng: source of the scrambles.
        tries: scrambles made of each digit.
    """
    real = digits.reshape(len(digits), -1).astype(np.float64)
    best, best_distance = np.zeros_like(digits), np.full(len(digits), -1.0)
    for _ in range(tries):
        candidate = scramble(digits, rng)
        flat = candidate.reshape(real.shape).astype(np.float64)
        squares = (flat**2).sum(1)[:, None] + (real**2).sum(1) - 2 * flat @ real.T
        distance = squares.min(1)
        better = distance > best_distance
        best[better], best_distance[better] = candidate[better], distance[better]
    return best


def heights(digits: np.ndarray) -> np.ndarray:
    """Smooth height fields (m, 60, 60) uint8 of 8 x 8 digits in 0..16, with one empty cell around them."""
    padded = np.pad(digits, ((0, 0), (PAD, PAD), (PAD, PAD))).astype(np.float64)
    scaled = np.round(padded * 255 / np.maximum(padded.max((1, 2), keepdims=True), 1)).astype(np.uint8)
    side = (CELLS + 2 * PAD) * ZOOM
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC)) for x in scaled])


@lru_cache(maxsize=3)
def glyphs(split: SplitName) -> Glyphs:
    """Digits and scrambles of one split; the same for every data set, whatever its seed."""
    table = load_digits()
    rows = split_rows(table.target)[split]
    digits = table.images[rows].astype(np.int64)
    odd = unlike(digits, np.random.default_rng([_SPLIT_SEED, SPLITS.index(split)]))
    return Glyphs(heights(digits), table.target[rows].astype(np.int64), heights(odd), rows)


def draw(bank: np.ndarray, index: np.ndarray, offset: np.ndarray, box: np.ndarray, window: int) -> np.ndarray:
    """Opacity of glyphs in a window of pixels.

    Args:
        bank: (m, h, h) uint8 heights.
        index: (n,) which glyph.
        offset: (n, 2) top and left of the glyph's box inside the window, in pixels.
        box: (n,) side of the box in pixels.
        window: side of the window in pixels.

    Returns:
        (n, window, window) float32 in [0, 1]; 0 outside the box, 0.5 on the edge of a stroke.
    """
    rows = _resample(bank[index].astype(np.float32), _places(offset[:, 0], box, window), axis=1)
    height = _resample(rows, _places(offset[:, 1], box, window), axis=2) / 255
    pixel = (BOX_CELLS / box).astype(np.float32)[:, None, None]
    opacity = np.clip((height - EDGE) / np.clip(pixel, 0.1, 0.5) + 0.5, 0, 1)
    pixels = np.arange(window)
    inside = (pixels >= offset[..., None]) & (pixels < (offset + box[:, None])[..., None])
    return opacity * (inside[:, 0, :, None] & inside[:, 1, None, :])


def _places(offset: np.ndarray, box: np.ndarray, window: int) -> np.ndarray:
    """Where the window's pixels (n, window) lie on the height field, in its samples, along one axis."""
    cells = (np.arange(window) + 0.5 - offset[:, None]) * (BOX_CELLS / box)[:, None]
    return ((cells + PAD - (BOX_CELLS - CELLS) / 2) * ZOOM - 0.5).astype(np.float32)


def _resample(field: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation of a field (n, h, w) float32 at places (n, k) along one axis."""
    low = np.clip(np.floor(places), 0, field.shape[axis] - 2).astype(np.int64)
    share = np.expand_dims(places - low.astype(np.float32), 3 - axis)
    before, after = (np.take_along_axis(field, np.expand_dims(low + i, 3 - axis), axis) for i in (0, 1))
    return before + share * (after - before)

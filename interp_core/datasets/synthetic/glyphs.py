"""The shapes pasted into scenes: scikit-learn's real handwritten digits, and scrambles of them that are no digit.

A glyph is a smooth height field in [0, 255]; its strokes are where the height is over `EDGE`, cut when it is drawn, so
that edges are sharp at any size. A scramble turns and moves the four quarters of a digit: the strokes stay, the class
goes. Of many tries those are kept that are least like any real digit and come in few pieces, as digits do.
Known limits: the data do not say who wrote a digit, so one writer may appear in several splits; no digit does. Likeness
is measured on 8 x 8 cells; now and then a person may still see a digit in a scramble.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy.ndimage import label
from sklearn.datasets import load_digits

from interp_core.datasets.records import SPLITS, SplitName

CELLS = 8
PAD = 1
ZOOM = 6
BOX_CELLS = 8.5
EDGE = 0.45
INK = 7
TRIES = 32
PIECE_PENALTY = 0.06
SOURCES = 360
# Digits leave their outer columns empty and scrambles fill them, so these columns make a digit as wide as a scramble.
WIDER = (1, 2, 2, 3, 4, 5, 5, 6)
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
# Its own constant, so that no digit changes split when a data set's seed does.
_SPLIT_SEED = 20_220_111


@dataclass(frozen=True)
class Glyphs:
    """The shapes of one split.

    Attributes:
        digits: (m, h, h) uint8 heights of real digits.
        classes: (m,) int64, their classes.
        source: (m,) int64 row of each digit in scikit-learn's table.
        scrambles: (s, h, h) uint8 heights of scrambled digits.
        made_of: (s,) int64, the digit of this split that each scramble was made of.
    """

    digits: np.ndarray
    classes: np.ndarray
    source: np.ndarray
    scrambles: np.ndarray
    made_of: np.ndarray


def split_rows(classes: np.ndarray) -> dict[SplitName, np.ndarray]:
    """Rows of each split, sorted: 60 / 20 / 20 % of each class, always the same.

    Args:
        classes: (m,) class of each row.
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    parts: dict[SplitName, list[np.ndarray]] = {name: [] for name in SPLITS}
    bounds = np.cumsum([_SHARES[name] for name in SPLITS])[:-1]
    for k in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == k))
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


def pieces(shapes: np.ndarray) -> np.ndarray:
    """How many unconnected pieces each of (m, 8, 8) shapes has: (m,) int; pieces that touch at a side are one."""
    within = np.zeros((3, 3, 3), bool)
    within[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    labels, _ = label(shapes > INK, within)
    # Labels count up through the stack, so the highest so far grows by a shape's own pieces.
    return np.diff(np.maximum.accumulate(labels.reshape(len(shapes), -1).max(1)), prepend=0)


def likeness(shapes: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """How like the nearest digit each shape is, at its best shift: (m,) in [0, 1], 1 for a digit itself.

    2 <a, b> / (<a, a> + <b, b>) over grey levels, shifts of up to two cells. Sums of whole numbers this small are exact
    in 32-bit floats, so that choices made by likeness fall alike on every machine.

    Args:
        shapes: (m, 8, 8) whole numbers in 0..16.
        digits: (k, 8, 8) likewise.
    """
    real = digits.reshape(len(digits), -1).astype(np.float32)
    energy = (real**2).sum(1)
    best = np.zeros(len(shapes), np.float32)
    for moved in _shifted(shapes):
        flat = moved.reshape(len(moved), -1).astype(np.float32)
        best = np.maximum(best, (2 * (flat @ real.T) / ((flat**2).sum(1)[:, None] + energy)).max(1))
    return best


def _shifted(shapes: np.ndarray) -> list[np.ndarray]:
    """The shapes moved by up to two cells each way; what leaves the square is lost."""
    padded = np.pad(shapes, ((0, 0), (2, 2), (2, 2)))
    return [padded[:, y : y + CELLS, x : x + CELLS] for y in range(5) for x in range(5)]


def unlike(digits: np.ndarray, rng: np.random.Generator, tries: int = TRIES) -> tuple[np.ndarray, np.ndarray]:
    """Scrambles in few pieces that look like no digit, wide or lying: the better half of the best one of each digit.

    Args:
        digits: (m, 8, 8) whole numbers in 0..16.
        rng: source of the scrambles.
        tries: scrambles made of each digit.

    Returns:
        (m // 2, 8, 8) scrambles and (m // 2,) the digits they were made of.
    """
    known = np.concatenate([digits, digits[:, :, WIDER], np.rot90(digits, 1, (1, 2))])
    best, best_score = np.zeros_like(digits), np.full(len(digits), np.inf)
    for _ in range(tries):
        candidate = scramble(digits, rng)
        score = likeness(candidate, known) + PIECE_PENALTY * (pieces(candidate) - 1)
        better = score < best_score
        best[better], best_score[better] = candidate[better], score[better]
    kept = np.sort(np.argsort(best_score, kind="stable")[: len(digits) // 2])
    return best[kept], kept


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
    step = -(-len(digits) // SOURCES)
    scrambles, made_of = unlike(digits[::step], np.random.default_rng([_SPLIT_SEED, SPLITS.index(split)]))
    return Glyphs(heights(digits), table.target[rows].astype(np.int64), rows, heights(scrambles), made_of * step)


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
    # The height falls from 1 to 0 within little more than a cell, so this ramp is about a pixel wide.
    ramp = np.clip(0.7 * BOX_CELLS / box, 0.05, 0.5).astype(np.float32)[:, None, None]
    opacity = np.clip((height - EDGE) / ramp + 0.5, 0, 1)
    return opacity * inside(offset, box, window)


def inside(offset: np.ndarray, box: np.ndarray, window: int) -> np.ndarray:
    """Which pixels of a window lie in a box: (n, window, window) bool, for offsets (n, 2) and sides (n,) in pixels."""
    pixels = np.arange(window)
    axes = (pixels >= offset[..., None]) & (pixels < (offset + box[:, None])[..., None])
    return axes[:, 0, :, None] & axes[:, 1, None, :]


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

"""Make the shapes of scenes: real handwritten digits of scikit-learn, and scrambles that show no digit.

A glyph is a smooth height field in [0, 255]. Its strokes are where the height exceeds `EDGE`. This is decided when the
glyph is drawn, so that edges are sharp at any size. A scramble turns and moves the four quarters of a digit. This keeps
the strokes and destroys the class. Of many tries, those least similar to any real digit and with few pieces are kept.
Known limits: the data do not say who wrote a digit, so a writer may appear in several splits; no digit does. Similarity
is measured on 8 x 8 cells, so a person may still see a digit in some scramble.
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
WIDENED_COLUMNS = (1, 2, 2, 3, 4, 5, 5, 6)
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
# A constant, so that the seed of a data set does not move digits between splits.
_SPLIT_SEED = 20_220_111


@dataclass(frozen=True)
class Glyphs:
    """Shapes of one split.

    Attributes:
        digits: (m, h, h) uint8 heights of real digits.
        classes: (m,) int64 classes of the digits.
        source: (m,) int64 row of each digit in scikit-learn's table.
        scrambles: (s, h, h) uint8 heights of scrambled digits.
        scrambled: (s,) int64 row of the digit in `digits` that each scramble was made of.
    """

    digits: np.ndarray
    classes: np.ndarray
    source: np.ndarray
    scrambles: np.ndarray
    scrambled: np.ndarray


def split_rows(classes: np.ndarray) -> dict[SplitName, np.ndarray]:
    """Divide rows into splits, 60 / 20 / 20 % of each class, always in the same way.

    Args:
        classes: (m,) class of each row.
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    rows_by_split: dict[SplitName, list[np.ndarray]] = {name: [] for name in SPLITS}
    bounds = np.cumsum([_SHARES[name] for name in SPLITS])[:-1]
    for k in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == k))
        for name, members in zip(SPLITS, np.split(rows, np.round(bounds * len(rows)).astype(int)), strict=True):
            rows_by_split[name].append(members)
    return {name: np.sort(np.concatenate(members)) for name, members in rows_by_split.items()}


def scramble(digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the quarters of digits and move each to another position.

    Args:
        digits: (m, 8, 8).
        rng: generator of the moves.
    """
    m, half = len(digits), CELLS // 2
    quarters = digits.reshape(m, 2, half, 2, half).swapaxes(2, 3).reshape(m, 4, half, half)
    # A cyclic shift of a random order moves every quarter.
    order = rng.permuted(np.tile(np.arange(4), (m, 1)), axis=1)
    scrambled = np.empty_like(quarters)
    np.put_along_axis(scrambled, order[..., None, None], _turn(quarters, order, rng), axis=1)
    return scrambled.reshape(m, 2, 2, half, half).swapaxes(2, 3).reshape(m, CELLS, CELLS)


def _turn(quarters: np.ndarray, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the quarter for each position of `order`, turned by a random multiple of 90 degrees."""
    sources = np.take_along_axis(quarters, np.roll(order, 1, axis=1)[..., None, None], axis=1)
    turns = rng.integers(0, 4, sources.shape[:2])
    return np.choose(turns[..., None, None], [np.rot90(sources, k, (2, 3)) for k in range(4)])


def count_pieces(shapes: np.ndarray) -> np.ndarray:
    """Count the connected pieces of each of (m, 8, 8) shapes, (m,) int; pieces that share a side are connected."""
    structure = np.zeros((3, 3, 3), bool)
    structure[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    labels, _ = label(shapes > INK, structure)
    # Labels count up through the stack, so the maximum so far grows by the number of pieces of each shape.
    return np.diff(np.maximum.accumulate(labels.reshape(len(shapes), -1).max(1)), prepend=0)


def similarity(shapes: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """Compute the similarity of each shape to the nearest digit at its best shift, (m,) in [0, 1].

    It is 1 for a digit itself, and in general 2 <a, b> / (<a, a> + <b, b>) over grey levels, with shifts of up to two
    cells. Sums of such small whole numbers are exact in 32-bit floats, so the result does not depend on the machine.

    Args:
        shapes: (m, 8, 8) whole numbers in 0..16.
        digits: (k, 8, 8) likewise.
    """
    real = digits.reshape(len(digits), -1).astype(np.float32)
    energy = (real**2).sum(1)
    best = np.zeros(len(shapes), np.float32)
    for shifted in _all_shifts(shapes):
        flat = shifted.reshape(len(shifted), -1).astype(np.float32)
        best = np.maximum(best, (2 * (flat @ real.T) / ((flat**2).sum(1)[:, None] + energy)).max(1))
    return best


def _all_shifts(shapes: np.ndarray) -> list[np.ndarray]:
    """Return the shapes shifted by up to two cells each way; parts outside the square are cut off."""
    padded = np.pad(shapes, ((0, 0), (2, 2), (2, 2)))
    return [padded[:, y : y + CELLS, x : x + CELLS] for y in range(5) for x in range(5)]


def make_scrambles(digits: np.ndarray, rng: np.random.Generator, tries: int = TRIES) -> tuple[np.ndarray, np.ndarray]:
    """Make scrambles in few pieces that resemble no digit, also no widened or lying one.

    The best of `tries` scrambles of each digit is found, and the better half of these is returned.

    Args:
        digits: (m, 8, 8) whole numbers in 0..16.
        rng: generator of the scrambles.
        tries: scrambles made of each digit.

    Returns:
        (m // 2, 8, 8) scrambles, and the rows (m // 2,) of the digits they were made of.
    """
    references = np.concatenate([digits, digits[:, :, WIDENED_COLUMNS], np.rot90(digits, 1, (1, 2))])
    best, best_score = np.zeros_like(digits), np.full(len(digits), np.inf)
    for _ in range(tries):
        candidate = scramble(digits, rng)
        score = similarity(candidate, references) + PIECE_PENALTY * (count_pieces(candidate) - 1)
        better = score < best_score
        best[better], best_score[better] = candidate[better], score[better]
    rows = np.sort(np.argsort(best_score, kind="stable")[: len(digits) // 2])
    return best[rows], rows


def heights(digits: np.ndarray) -> np.ndarray:
    """Return smooth height fields (m, 60, 60) uint8 of 8 x 8 digits in 0..16, with one empty cell around them."""
    padded = np.pad(digits, ((0, 0), (PAD, PAD), (PAD, PAD))).astype(np.float64)
    scaled = np.round(padded * 255 / np.maximum(padded.max((1, 2), keepdims=True), 1)).astype(np.uint8)
    side = (CELLS + 2 * PAD) * ZOOM
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC)) for x in scaled])


@lru_cache(maxsize=3)
def glyphs(split: SplitName) -> Glyphs:
    """Return the digits and scrambles of a split, which are the same for every data set and seed."""
    table = load_digits()
    rows = split_rows(table.target)[split]
    digits = table.images[rows].astype(np.int64)
    step = -(-len(digits) // SOURCES)
    scrambles, scrambled = make_scrambles(digits[::step], np.random.default_rng([_SPLIT_SEED, SPLITS.index(split)]))
    return Glyphs(heights(digits), table.target[rows].astype(np.int64), rows, heights(scrambles), scrambled * step)


def draw(bank: np.ndarray, index: np.ndarray, offset: np.ndarray, box: np.ndarray, window: int) -> np.ndarray:
    """Draw the opacity of glyphs in a window of pixels.

    Args:
        bank: (m, h, h) uint8 heights.
        index: (n,) row of each glyph in the bank.
        offset: (n, 2) top and left of the glyph's box inside the window, in pixels.
        box: (n,) side of the box in pixels.
        window: side of the window in pixels.

    Returns:
        (n, window, window) float32 in [0, 1]; 0 outside the box, 0.5 on the edge of a stroke.
    """
    rows = _resample(bank[index].astype(np.float32), _sample_positions(offset[:, 0], box, window), axis=1)
    height = _resample(rows, _sample_positions(offset[:, 1], box, window), axis=2) / 255
    # The height falls from 1 to 0 within little more than a cell, so this ramp is about a pixel wide.
    ramp = np.clip(0.7 * BOX_CELLS / box, 0.05, 0.5).astype(np.float32)[:, None, None]
    opacity = np.clip((height - EDGE) / ramp + 0.5, 0, 1)
    return np.asarray(opacity * inside(offset, box, window))


def inside(offset: np.ndarray, box: np.ndarray, window: int) -> np.ndarray:
    """Return the pixels of a window inside a box, (n, window, window) bool, for offsets (n, 2) and sides (n,)."""
    pixels = np.arange(window)
    axes = (pixels >= offset[..., None]) & (pixels < (offset + box[:, None])[..., None])
    return np.asarray(axes[:, 0, :, None] & axes[:, 1, None, :])


def _sample_positions(offset: np.ndarray, box: np.ndarray, window: int) -> np.ndarray:
    """Return the positions (n, window) of the pixels of a window on the height field, in samples, along an axis."""
    cells = (np.arange(window) + 0.5 - offset[:, None]) * (BOX_CELLS / box)[:, None]
    return np.asarray((cells + PAD - (BOX_CELLS - CELLS) / 2) * ZOOM - 0.5).astype(np.float32)


def _resample(field: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate a field (n, h, w) float32 linearly at positions (n, k) along an axis."""
    low = np.clip(np.floor(positions), 0, field.shape[axis] - 2).astype(np.int64)
    share = np.expand_dims(positions - low.astype(np.float32), 3 - axis)
    before, after = (np.take_along_axis(field, np.expand_dims(low + i, 3 - axis), axis) for i in (0, 1))
    return np.asarray(before + share * (after - before))

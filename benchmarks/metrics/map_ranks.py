"""What metrics do to maps whose ties are broken, before Quantus sees them. Pure functions on (N, 1, H, W).

Quantus refuses a batch whose values are all negative and treats values only by order in several metrics: ranks say the
same and are never refused. Where values count, what the tie-breaking added is taken out again.
"""

from __future__ import annotations

import numpy as np

from benchmarks.metrics.base import JITTER


def ranks(maps: np.ndarray) -> np.ndarray:
    """Rank of each pixel in its own map, 1 for the smallest to H*W for the largest, float64."""
    flat = maps.reshape(len(maps), -1)
    order = np.argsort(flat, axis=1, kind="stable")
    values = np.broadcast_to(np.arange(1.0, flat.shape[1] + 1), flat.shape)
    result = np.empty(flat.shape)
    np.put_along_axis(result, order, values, axis=1)
    return result.reshape(maps.shape)


def reversed_ranks(maps: np.ndarray) -> np.ndarray:
    """Ranks of the negated map, 1 for the largest to H*W for the smallest, float64."""
    return maps[0].size + 1.0 - ranks(maps)


def remove_jitter(maps: np.ndarray) -> np.ndarray:
    """Maps with zero for every value too small to be told from the tie-breaking jitter.

    The bound is twice the jitter's height since the jitter also moves the range it is measured by.
    """
    bound = 2 * JITTER * np.ptp(maps, axis=(1, 2, 3), keepdims=True)
    return np.where(np.abs(maps) > bound, maps, 0.0)


def positive_part(maps: np.ndarray) -> np.ndarray:
    """Evidence for the target: values above the jitter, zero elsewhere."""
    return np.maximum(remove_jitter(maps), 0.0)


def subtract_minimum(maps: np.ndarray) -> np.ndarray:
    """Maps moved so that each begins at zero; sums over equally many pixels keep their differences."""
    return maps - maps.min(axis=(1, 2, 3), keepdims=True)

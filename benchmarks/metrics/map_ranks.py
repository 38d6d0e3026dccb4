"""Conversions of maps (N, 1, H, W) whose ties are broken, for metrics and for Quantus. Pure functions.

Quantus refuses a batch whose values are all negative, and several of its metrics use only the order of values. Ranks
have the same order and are never refused. Metrics that use values remove the jitter of the tie-breaking first.
"""

from __future__ import annotations

import numpy as np

from benchmarks.metrics.base import JITTER


def ranks(maps: np.ndarray) -> np.ndarray:
    """Rank the pixels of each map from 1, the smallest, float64."""
    flat = maps.reshape(len(maps), -1)
    order = np.argsort(flat, axis=1, kind="stable")
    positions = np.broadcast_to(np.arange(1.0, flat.shape[1] + 1), flat.shape)
    pixel_ranks = np.empty(flat.shape)
    np.put_along_axis(pixel_ranks, order, positions, axis=1)
    return pixel_ranks.reshape(maps.shape)


def remove_jitter(maps: np.ndarray) -> np.ndarray:
    """Set values to zero that may be jitter of the tie-breaking.

    The bound is twice the height of the jitter, since the jitter also changes the range that it is measured by.
    """
    bound = 2 * JITTER * np.ptp(maps, axis=(1, 2, 3), keepdims=True)
    return np.where(np.abs(maps) > bound, maps, 0.0)


def positive_part(maps: np.ndarray) -> np.ndarray:
    """Keep values above the jitter, and set all others to zero.

    Positive values speak for the target.
    """
    return np.maximum(remove_jitter(maps), 0.0)


def subtract_minimum(maps: np.ndarray) -> np.ndarray:
    """Shift each map to a minimum of zero.

    Sums over equally many pixels keep their differences.
    """
    return maps - maps.min(axis=(1, 2, 3), keepdims=True)

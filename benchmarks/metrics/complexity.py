"""Complexity: how concentrated is the map? A descriptor, never ranked: neither a sharp nor a broad map is right.

Quantus adds 1e-7 to every value, so a score would depend on the map's unit: each map is divided by its own largest
magnitude.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.maps import above_jitter
from benchmarks.metrics.quantus_adapter import evaluate


@metrics.register("sparseness")
class Sparseness(Metric):
    """Gini coefficient of the map's magnitudes: 0 for a constant map, near 1 for a single pixel.

    Source: Chalasani et al. 2020; quantus.Sparseness.
    """

    title: ClassVar[str] = "Sparseness"
    family: ClassVar[Family] = "descriptor"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("sparseness", "Sparseness (Gini)", "none", 0.0, 1.0, ranked=False, degenerate=0.0),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        maps = above_jitter(batch.maps)
        peak = np.abs(maps).max(axis=(1, 2, 3), keepdims=True)
        return {"sparseness": evaluate("Sparseness", batch, np.abs(maps / peak), with_model=False, absolute=True)}

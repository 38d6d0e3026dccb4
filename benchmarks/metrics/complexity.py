"""Complexity: how concentrated is the map? These descriptors are never ranked: neither sharp nor broad maps are right.

Quantus adds 1e-7 to every value, so a score would depend on the unit of the map. Each map is therefore divided by its
largest magnitude.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.map_ranks import remove_jitter
from benchmarks.metrics.quantus_adapter import evaluate

_SMALL = 1e-7


def magnitudes(maps: np.ndarray) -> np.ndarray:
    """Return magnitudes (N, 1, H, W) in units of each map's largest."""
    size = np.abs(remove_jitter(maps))
    return size / size.max(axis=(1, 2, 3), keepdims=True)


@metrics.register("sparseness")
class Sparseness(Metric):
    """Gini coefficient of the map's magnitudes.

    It is 0 for a constant map and near 1 for a single pixel.

    Source: Chalasani et al. 2020; quantus.Sparseness.
    """

    title: ClassVar[str] = "Sparseness"
    family: ClassVar[Family] = "descriptor"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("sparseness", "Sparseness (Gini)", "none", 0.0, 1.0, ranked=False, degenerate=0.0),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        ascending = np.sort(magnitudes(batch.maps).reshape(len(batch.maps), -1) + _SMALL, axis=1)
        n = ascending.shape[1]
        weights = 2 * np.arange(1, n + 1) - n - 1
        return {"sparseness": ascending @ weights / (n * ascending.sum(1))}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        maps = magnitudes(batch.maps)
        return {"sparseness": evaluate("Sparseness", batch, maps, with_model=False, absolute=True)}


@metrics.register("complexity")
class Complexity(Metric):
    """Entropy of the map's magnitudes as shares of their sum, in nats.

    It is 0 for a single pixel and at most log(H W).

    Source: Bhatt, Weller and Moura 2020; quantus.Complexity.
    """

    title: ClassVar[str] = "Complexity"
    family: ClassVar[Family] = "descriptor"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("complexity", "Complexity (entropy)", "none", 0.0, float("inf"), ranked=False),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        shares = magnitudes(batch.maps).reshape(len(batch.maps), -1)
        shares = shares / shares.sum(1, keepdims=True)
        return {"complexity": np.maximum(-(shares * np.log(shares + 1e-12)).sum(1), 0.0)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        maps = magnitudes(batch.maps)
        return {"complexity": np.maximum(evaluate("Complexity", batch, maps, with_model=False, absolute=True), 0.0)}

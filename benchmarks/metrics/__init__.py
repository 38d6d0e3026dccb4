"""Metrics of explanations. Importing this package fills the registry `metrics`."""

from __future__ import annotations

from benchmarks.metrics import (  # noqa: F401 - imported to be registered
    boxes,
    complexity,
    correlation,
    flipping,
    grid,
    localisation,
    randomisation,
    regions,
    road,
    robustness,
)
from benchmarks.metrics.base import Batch, Metric, Score, metrics

__all__ = ["Batch", "Metric", "Score", "metrics"]

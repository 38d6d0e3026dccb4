"""Metrics of explanations. Importing this package fills the registry `metrics`."""

from __future__ import annotations

from benchmarks.metrics import complexity, faithfulness, localisation  # noqa: F401 - imported to be registered
from benchmarks.metrics.base import Batch, Metric, Score, metrics

__all__ = ["Batch", "Metric", "Score", "metrics"]

"""Metrics of explanations. Every module in this folder registers its own."""

from __future__ import annotations

from benchmarks.metrics.base import Batch, Metric, Score, metrics, passes_of
from interp_core.registry import import_modules

__all__ = ["Batch", "Metric", "Score", "metrics", "passes_of"]

import_modules(__path__, __name__)

"""Data sets: images with their targets and the evidence for them, as arrays. They know no model."""

from __future__ import annotations

from interp_core.datasets.base import SPLITS, DatasetConfig, Split, SplitName, datasets
from interp_core.datasets.digits import DigitsInScenes

__all__ = ["SPLITS", "DatasetConfig", "DigitsInScenes", "Split", "SplitName", "datasets"]

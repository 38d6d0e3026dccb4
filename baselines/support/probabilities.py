"""Probabilities that explainers by occlusion ask for: of classes that exclude each other, or each for itself."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Probability = Literal["softmax", "sigmoid"]


def probability(logits: Tensor, kind: Probability) -> Tensor:
    """Probabilities (N, K) of logits (N, K): "sigmoid" where an image may show several classes."""
    return logits.sigmoid() if kind == "sigmoid" else logits.softmax(1)

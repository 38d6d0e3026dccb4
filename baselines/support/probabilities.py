"""Class probabilities, by softmax or by a sigmoid for each class."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Probability = Literal["softmax", "sigmoid"]


def probability(logits: Tensor, kind: Probability) -> Tensor:
    """Compute probabilities (N, K) of logits (N, K); "sigmoid" is for images that may show several classes."""
    return logits.sigmoid() if kind == "sigmoid" else logits.softmax(1)

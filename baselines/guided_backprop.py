"""Guided backpropagation through captum: the input gradient, with negative gradients dropped at every ReLU.

Idea: at each ReLU pass back the gradient only where both the input and the gradient are positive.
Paper: Springenberg et al., ICLR workshop 2015.
Library: captum `GuidedBackprop`.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks without nn.ReLU modules (SiLU, GELU, functional ReLU): refused. With others as well: flagged.
Known limits: partly an edge detector: maps change little when upper layers are randomised (Adebayo et al. 2018).
ReLU functions beside modules keep their gradient, among them those of LAP's scorers.
"""

from __future__ import annotations

from typing import ClassVar

from baselines.base import explainers
from baselines.support.through_relu import Method, ReluGradient


@explainers.register("guided_backprop")
class GuidedBackprop(ReluGradient):
    """Largest magnitude of the guided gradient over the channels."""

    title: ClassVar[str] = "Guided Backprop"
    source: ClassVar[str] = "Springenberg et al. 2015; captum GuidedBackprop"
    method: ClassVar[Method] = "GuidedBackprop"

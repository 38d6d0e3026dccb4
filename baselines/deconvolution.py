"""Deconvolution through captum: the input gradient, with ReLU applied to the gradient in place of its derivative.

Idea: at each ReLU pass back the positive part of the gradient, whatever the input was.
Paper: Zeiler and Fergus, ECCV 2014; in this form Springenberg et al., ICLR workshop 2015.
Library: captum `Deconvolution`.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks without nn.ReLU modules (SiLU, GELU, functional ReLU): refused. With others as well: flagged.
Known limits: without max pooling its map hardly depends on the image, and shows a checkerboard of the strides. ReLU
functions beside modules keep their gradient, among them those of LAP's scorers.
"""

from __future__ import annotations

from typing import ClassVar

from baselines.base import explainers
from baselines.support.through_relu import Method, ReluGradient


@explainers.register("deconvolution")
class Deconvolution(ReluGradient):
    """Largest magnitude of the deconvolution over the channels."""

    title: ClassVar[str] = "Deconvolution"
    source: ClassVar[str] = "Zeiler and Fergus 2014; captum Deconvolution"
    method: ClassVar[Method] = "Deconvolution"

"""Deconvolution through captum: the input gradient, with ReLU applied to the gradient in place of its derivative.

Idea: at each ReLU hand back the positive part of the gradient, whatever went forward.
Paper: Zeiler and Fergus, ECCV 2014; in this form Springenberg et al., ICLR workshop 2015.
Library: captum `Deconvolution`.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks without nn.ReLU modules (SiLU, GELU, functional ReLU): refused; with others as well: flagged.
Known limits: without max pooling its map hardly depends on the image; a checkerboard of the strides shows.
Functional calls of ReLU beside modules are not seen and keep their gradient, among them those of LAP's scorers.
"""

from __future__ import annotations

from typing import ClassVar

from baselines.base import explainers
from baselines.support.through_relu import Method, ThroughRelu


@explainers.register("deconvolution")
class Deconvolution(ThroughRelu):
    """Largest magnitude of the deconvolution over the channels."""

    title: ClassVar[str] = "Deconvolution"
    source: ClassVar[str] = "Zeiler and Fergus 2014; captum Deconvolution"
    method: ClassVar[Method] = "Deconvolution"

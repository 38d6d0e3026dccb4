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

import warnings
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.gradients import in_parts, largest
from baselines.modules import other_than_relu, without_relu


@explainers.register("deconvolution")
class Deconvolution(Explainer):
    """Largest magnitude of the deconvolution over the channels.

    Fields:
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "Deconvolution"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "Zeiler and Fergus 2014; captum Deconvolution"

    internal_batch_size: int = Field(32, ge=1)

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason where there is no ReLU to replace."""
        return without_relu(model)

    def caveat(self, model: nn.Module) -> str | None:
        """Activations that keep their derivative."""
        return other_than_relu(model)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) >= 0."""
        import captum.attr

        method = captum.attr.Deconvolution(model)

        def one(part: Tensor, labels: Tensor) -> Tensor:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", UserWarning)
                return largest(method.attribute(part.detach().requires_grad_(), target=labels).detach())

        return in_parts(one, images, targets, self.internal_batch_size)

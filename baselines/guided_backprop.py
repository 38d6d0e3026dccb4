"""Guided backpropagation through captum: the input gradient, with negative gradients dropped at every ReLU.

Idea: at each ReLU hand back the gradient only where both the input and the gradient are positive.
Paper: Springenberg et al., ICLR workshop 2015.
Library: captum `GuidedBackprop`.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks without nn.ReLU modules (SiLU, GELU, functional ReLU): refused; with others as well: flagged.
Known limits: partly an edge detector: maps change little when upper layers are randomised (Adebayo et al. 2018).
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


def guided_gradients(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Guided gradients (N, C, H, W) of the targets' logits."""
    import captum.attr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", UserWarning)
        return captum.attr.GuidedBackprop(model).attribute(images.detach().requires_grad_(), target=targets).detach()


@explainers.register("guided_backprop")
class GuidedBackprop(Explainer):
    """Largest magnitude of the guided gradient over the channels.

    Fields:
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "Guided Backprop"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "Springenberg et al. 2015; captum GuidedBackprop"

    internal_batch_size: int = Field(32, ge=1)

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason where there is no ReLU to guide."""
        return without_relu(model)

    def caveat(self, model: nn.Module) -> str | None:
        """Activations that are not guided."""
        return other_than_relu(model)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) >= 0."""

        def one(part: Tensor, labels: Tensor) -> Tensor:
            return largest(guided_gradients(model, part, labels))

        return in_parts(one, images, targets, self.internal_batch_size)

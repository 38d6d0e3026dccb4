"""Saliency: magnitude of the gradient of the target's logit with respect to the pixels.

Idea: M(i, j) = max_c |d logit / d x(c, i, j)|, the pixels whose smallest change moves the logit most.
Paper: Simonyan et al., ICLR workshop 2014.
Library: torch autograd; the tests hold it to captum `Saliency`.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: nowhere refused.
Known limits: noisy at pixel level, more so with depth. Shows where the logit is sensitive, not what contributes to it.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import input_gradients, max_magnitude


@explainers.register("saliency")
class Saliency(Explainer):
    """Largest magnitude of the input gradient over the channels.

    Fields:
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "Saliency"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "Simonyan et al. 2014; torch autograd"

    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""
        return max_magnitude(input_gradients(model, images, targets))

"""Input x Gradient: the first-order share of every pixel in the target's logit.

Idea: R = x * d logit / d x, in normalised space, so that the reference is the mean of the data set. The values sum to
the logit where the network is linear without bias, and differ from it by the biases where it is piecewise linear.
Paper: Shrikumar et al., arXiv 1605.01713 (2016).
Library: torch autograd; the tests hold it to captum `InputXGradient`.
Baseline: 0 in normalised space.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: nowhere refused.
Known limits: noisy at pixel level; 0 where a pixel has the value of the baseline; not complete.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import input_gradients


@explainers.register("input_x_gradient")
class InputXGradient(Explainer):
    """Pixel times gradient, summed over the channels.

    Fields:
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "Input x Gradient"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Shrikumar et al. 2016; torch autograd"

    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute values (N, C, H, W), one per channel."""
        return images * input_gradients(model, images, targets)

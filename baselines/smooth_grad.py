"""SmoothGrad: the gradient averaged over noisy copies of the image.

Idea: the mean of d logit / d x at x + e with e ~ N(0, s^2), s a share of the range of the image. The mean is taken
with signs, as in the paper's formula; then the magnitude as in Saliency.
Paper: Smilkov et al., arXiv 1706.03825 (2017).
Library: own loop, since every image must get the same noise whatever its batch. The tests compare it with captum
`NoiseTunnel` in the limit.
Baseline: none.
Budget: 50 samples at a noise of 15 % (paper: 50 samples, 10 to 20 %).
Cost: 50 forwards, 50 backwards.
Not valid: nowhere refused.
Known limits: averages over images that the network was not trained on. Shows where the logit is sensitive.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import input_gradients, max_magnitude, stack_draws, sum_over_samples


@explainers.register("smooth_grad")
class SmoothGrad(Explainer):
    """Magnitude of the mean gradient of noisy copies.

    Fields:
        samples: number of noisy copies of each image.
        noise: standard deviation of the noise, as a share of the image's range.
        internal_batch_size: copies of one image that go through the model at once.
    """

    title: ClassVar[str] = "SmoothGrad"
    signed: ClassVar[bool] = False
    batched: ClassVar[bool] = False
    source: ClassVar[str] = "Smilkov et al. 2017; torch autograd"

    samples: int = Field(50, ge=1)
    noise: float = Field(0.15, gt=0)
    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""

        def draw(numbers: range) -> Tensor:
            return stack_draws(len(numbers), lambda: torch.randn(images.shape[1:])).to(images)

        def compute(image: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
            scale = self.noise * (image.amax() - image.amin())
            return input_gradients(model, image + scale * noise, labels).sum(0)

        total = sum_over_samples(images, targets, self.samples, self.internal_batch_size, draw, compute)
        return max_magnitude(total / self.samples)

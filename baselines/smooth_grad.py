"""SmoothGrad: the gradient averaged over noisy copies of the image.

Idea: the mean of d logit / d x at x + e with e ~ N(0, s^2), s a share of the range of the image; its magnitude as in
Saliency. Averaged with its sign, as the paper's formula has it; the magnitude is taken after.
Paper: Smilkov et al., arXiv 1706.03825 (2017).
Library: own loop, since every image must meet the same noise whatever its batch; the tests hold it to captum
`NoiseTunnel` in the limit.
Baseline: none.
Budget: 50 samples at a noise of 15 % (paper: 50 samples, 10 to 20 %).
Cost: 50 forwards, 50 backwards.
Not valid: nowhere refused.
Known limits: an average over images that the network has not been trained on; says where the logit is sensitive.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import drawn, input_gradients, largest


@explainers.register("smooth_grad")
class SmoothGrad(Explainer):
    """Magnitude of the mean gradient of noisy copies.

    Fields:
        samples: noisy copies of each image.
        noise: standard deviation of the noise as a share of the image's range.
        internal_batch_size: copies that go through the model at once.
    """

    title: ClassVar[str] = "SmoothGrad"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "Smilkov et al. 2017; torch autograd"

    samples: int = Field(50, ge=1)
    noise: float = Field(0.15, gt=0)
    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) >= 0."""
        scale = self.noise * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))
        total = torch.zeros_like(images)
        for start in range(0, self.samples, self.internal_batch_size):
            count = min(self.internal_batch_size, self.samples - start)
            noise = drawn(count, lambda: torch.randn(images.shape[1:])).to(images)
            for i, image in enumerate(images):
                total[i] += input_gradients(model, image + scale[i] * noise, targets[i].expand(count)).sum(0)
        return largest(total / self.samples)

"""Gradient SHAP (expected gradients): Integrated Gradients averaged over random baselines and points of the path.

Idea: the mean over b and t ~ U(0, 1) of (x - b) * d logit / d x at b + t (x - b); in expectation the values sum to
logit(x) - E logit(b).
Paper: Lundberg and Lee, NIPS 2017; Erion et al., Nature Machine Intelligence 2021.
Library: own loop, since captum `GradientShap` draws different samples for every image of a batch. The tests compare the
expectation of both.
Baseline: white noise with the mean of the data (0) and `spread` times its standard deviation (1), since explainers get
no background images.
Budget: 200 samples, the default of shap's `GradientExplainer`; t is stratified.
Cost: 200 forwards, 200 backwards.
Not valid: nowhere refused.
Known limits: sums in expectation only. White noise is not an image; a background of images may rank pixels
differently.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import input_gradients, sum_over_samples


@explainers.register("gradient_shap")
class GradientShap(Explainer):
    """Expected gradients from noise to the image.

    Fields:
        samples: number of pairs of a baseline and a point of the path.
        spread: standard deviation of the baselines, as a multiple of that of the data.
        internal_batch_size: samples of one image that go through the model at once.
    """

    title: ClassVar[str] = "Gradient SHAP"
    signed: ClassVar[bool] = True
    batched: ClassVar[bool] = False
    source: ClassVar[str] = "Lundberg and Lee 2017, Erion et al. 2021; torch autograd"

    samples: int = Field(200, ge=1)
    spread: float = Field(1.0, ge=0)
    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute values (N, C, H, W), one per channel."""

        def draw(strata: range) -> tuple[Tensor, Tensor]:
            pairs = [(torch.randn(images.shape[1:]), torch.rand(())) for _ in strata]
            baselines = self.spread * torch.stack([baseline for baseline, _ in pairs]).to(images)
            offsets = torch.stack([offset for _, offset in pairs])
            t = (torch.arange(strata.start, strata.stop) + offsets) / self.samples
            return baselines, t.to(images)[:, None, None, None]

        def compute(image: Tensor, labels: Tensor, samples: tuple[Tensor, Tensor]) -> Tensor:
            baselines, t = samples
            difference = image - baselines
            return (difference * input_gradients(model, baselines + t * difference, labels)).sum(0)

        total = sum_over_samples(images, targets, self.samples, self.internal_batch_size, draw, compute)
        return total / self.samples

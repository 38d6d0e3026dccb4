"""Gradient SHAP (expected gradients): Integrated Gradients averaged over random baselines and points of the way.

Idea: the mean over b and t ~ U(0, 1) of (x - b) * d logit / d x at b + t (x - b); in expectation the values sum to
logit(x) - E logit(b).
Paper: Lundberg and Lee, NIPS 2017; Erion et al., Nature Machine Intelligence 2021.
Library: own loop, since captum `GradientShap` draws anew for every image of a batch; the tests hold both to the same
expectation.
Baseline: an explainer is given no background images. Baselines are noise of the data's mean (0) and of `spread` of its
standard deviation (1) at every pixel.
Budget: 200 samples, the default of shap's `GradientExplainer`; t is stratified.
Cost: 200 forwards, 200 backwards.
Not valid: nowhere refused.
Known limits: sums only in expectation; white noise is no image, and a background of images may rank pixels otherwise.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import input_gradients


@explainers.register("gradient_shap")
class GradientShap(Explainer):
    """Expected gradients from noise to the image.

    Fields:
        samples: pairs of a baseline and a point of the way.
        spread: standard deviation of the baselines, in that of the data.
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "Gradient SHAP"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Lundberg and Lee 2017, Erion et al. 2021; torch autograd"

    samples: int = Field(200, ge=1)
    spread: float = Field(1.0, ge=0)
    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Values (N, C, H, W), one per channel."""
        total = torch.zeros_like(images)
        for start in range(0, self.samples, self.internal_batch_size):
            strata = torch.arange(start, min(start + self.internal_batch_size, self.samples))
            pairs = [(torch.randn(images.shape[1:]), torch.rand(())) for _ in strata]
            baselines = self.spread * torch.stack([baseline for baseline, _ in pairs]).to(images)
            t = ((strata + torch.stack([place for _, place in pairs])) / self.samples).to(images)[:, None, None, None]
            for i, image in enumerate(images):
                way = image - baselines
                gradients = input_gradients(model, baselines + t * way, targets[i].expand(len(strata)))
                total[i] += (way * gradients).sum(0)
        return total / self.samples

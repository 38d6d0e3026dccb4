"""Information bottleneck attribution: noise takes the place of features, as much as the decision allows.

Idea: replace the features R of a layer by Z = l R + (1 - l) e, with noise e of the mean and the deviation of R. Find
the shares l in (0, 1) that keep the target's probability while Z says as little as possible about R. The map is the
information that is left at each position, summed over the channels.
Paper: Schulz et al., ICLR 2020, the per-sample bottleneck.
Library: own code; the authors' package is for torch 1.
Baseline: noise in place of features. The paper estimates its mean and deviation on images of the data set, which an
explainer here does not get: they are those of each channel over the positions of the image itself.
Budget: 10 steps of Adam at a rate of 1 with 10 samples of the noise, information with a weight of 10, and shares
smoothed with a deviation of one cell: the paper's.
Cost: 101 forwards, 100 backwards, of which the layers before the bottleneck take 11 and 0.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused.
Known limits: one layer, the one nearest to 8 pixels a cell, as fine as the paper's on ResNet-50. What the image has in
the same amount everywhere is noise to this estimate. A map in bits, not in units of the logit.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from baselines.base import Explainer, explainers
from baselines.support.cam import reason_without_last_layer
from baselines.support.stages import Stage, run_with_stages, stages_of
from interp_core.backbone.blur import blur
from interp_core.backbone.geometry import resize
from interp_core.lap.odds import log_odds

START = 5.0  # sigmoid(5) = 0.993: at first nearly everything passes


def information(shares: Tensor, normalised: Tensor) -> Tensor:
    """Compute the information in nats of each feature after the bottleneck.

    KL divergence of N(l r, (1 - l)^2) from N(0, 1), for shares l in (0, 1) and normalised features r, which broadcast.
    """
    left = 1 - shares
    return -left.log() + (left.square() + (shares * normalised).square() - 1) / 2


def replace(_maps: Tensor, by: Tensor) -> Tensor:
    """Return other maps in place of those of a pass."""
    return by


@explainers.register("bottleneck")
class Bottleneck(Explainer):
    """Information that passes a bottleneck at a middle layer, in bits.

    Fields:
        steps: steps of the optimiser.
        samples: samples of the noise at each step.
        beta: weight of the mean information of a feature against the cross-entropy.
        rate: step of Adam.
        smooth: standard deviation of the blur of the shares, in cells.
        reduction: pixels per cell of the layer that is taken, or the nearest number.
        multi_label: whether the class is judged by its own sigmoid, instead of by the softmax over all.
        internal_batch_size: images, times samples, that go through the model at once.
    """

    title: ClassVar[str] = "Information bottleneck"
    signed: ClassVar[bool] = False
    needs_layers: ClassVar[bool] = True
    batched: ClassVar[bool] = False
    source: ClassVar[str] = "Schulz et al. 2020"

    steps: int = Field(10, ge=1)
    samples: int = Field(10, ge=1)
    beta: float = Field(10.0, gt=0)
    rate: float = Field(1.0, gt=0)
    smooth: float = Field(1.0, gt=0)
    reduction: int = Field(8, ge=1)
    multi_label: bool = False
    internal_batch_size: int = Field(40, ge=1)

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model in which no single module outputs the last feature map."""
        return reason_without_last_layer(model)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""
        stages = [stage for stage in stages_of(model) if not stage.layout.prefix]
        stage = min(stages, key=lambda stage: abs(stage.reduction - self.reduction))
        count = max(1, self.internal_batch_size // self.samples)
        seed = int(torch.randint(2**31, ()))
        pairs = zip(images.split(count), targets.split(count), strict=True)
        cells = torch.cat([self._cells(model, stage, *pair, torch.Generator().manual_seed(seed)) for pair in pairs])
        height, width = images.shape[-2:]
        return resize(cells, height, width, stage.grid_of((height, width)).shown())

    def _cells(
        self, model: nn.Module, stage: Stage, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Compute the information (N, 1, h, w) at the cells of `stage`."""
        with torch.no_grad():
            features = run_with_stages(model, [stage], images, lambda maps: maps)[0][0]
        mean = features.mean((2, 3), keepdim=True)
        deviation = features.std((2, 3), keepdim=True, correction=0)
        normalised = (features - mean) / deviation.clamp(min=torch.finfo(features.dtype).eps)
        alpha = torch.full_like(features, START, requires_grad=True)
        optimiser = torch.optim.Adam([alpha], lr=self.rate)
        classes = targets.repeat_interleave(self.samples)
        for _ in range(self.steps):
            # The same noise for every image, whatever its batch.
            noise = torch.randn(self.samples, *features.shape[1:], generator=generator).to(features)
            shares = self._shares(alpha)
            passed = shares[:, None] * normalised[:, None] + (1 - shares[:, None]) * noise
            passed = mean[:, None] + deviation[:, None] * passed
            # The layers before take an image once, and those behind it all its samples.
            logits = run_with_stages(model, [stage], images, partial(replace, by=passed.flatten(0, 1)))[1]
            loss = softplus(-log_odds(logits, classes, self.multi_label)).sum() / self.samples
            loss = loss + self.beta * information(shares, normalised).mean((1, 2, 3)).sum()
            alpha.grad = torch.autograd.grad(loss, alpha)[0]
            optimiser.step()
        with torch.no_grad():
            return information(self._shares(alpha), normalised).sum(1, keepdim=True) / torch.log(torch.tensor(2.0))

    def _shares(self, alpha: Tensor) -> Tensor:
        """Compute the smoothed shares, below 1 by a margin, so that their information is finite."""
        return blur(alpha.sigmoid(), self.smooth).clamp(max=1 - 1e-6)

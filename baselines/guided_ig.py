"""Guided Integrated Gradients: a path from the baseline to the image that first changes what the logit is deaf to.

Idea: at each step only the features with the smallest gradient move towards the image, until the distance that is left
falls by its share. No feature may be more than `max_dist` ahead of or behind the straight path. The values sum the
gradient along the path.
Paper: Kapishnikov et al., CVPR 2021.
Library: own code, in batches, with one sort a step in place of quantiles; the tests compare it with PAIR's saliency.
Baseline: 0 in normalised space, the mean of the data set (the paper's is black).
Budget: 200 steps, a quarter of the features at once and a distance of 0.02, the defaults of PAIR's code.
Cost: 200 forwards, 200 backwards.
Not valid: nowhere refused.
Known limits: as Integrated Gradients, with less noise. The sum is exact only for small steps.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import input_gradients


def advance(position: Tensor, end: Tensor, gradients: Tensor, distance: Tensor, share: float) -> Tensor:
    """Move the features with the smallest gradient towards `end` by a total distance.

    Features are taken in groups of equal number, smallest gradient first. All of a group move by the same part of their
    way, and the next group moves only when this one has arrived.

    Args:
        position: (N, D).
        end: (N, D), where features may move at most.
        gradients: (N, D).
        distance: (N,), the sum of |moves| that is asked for; less where all have arrived.
        share: number of features in a group, as a share of D.
    """
    ways = end - position
    arrived = ways == 0
    order = gradients.abs().masked_fill(arrived, torch.inf).argsort(dim=1, stable=True)
    size = max(1, round(share * position.shape[1]))
    moves = torch.zeros_like(position)
    left = distance.clamp(min=0)
    for group in order.split(size, dim=1):
        way = ways.gather(1, group)
        length = way.abs().sum(1)
        part = (left / length.clamp(min=torch.finfo(length.dtype).tiny)).clamp(max=1)
        moves.scatter_(1, group, part[:, None] * way)
        left = (left - length).clamp(min=0)
    return position + moves


@explainers.register("guided_ig")
class GuidedIg(Explainer):
    """Gradients summed along a path guided by the network.

    Fields:
        steps: number of steps.
        fraction: features that move together, as a share of all.
        max_dist: largest distance from the straight path, as a share of it.
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "Guided IG"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Kapishnikov et al. 2021"

    steps: int = Field(200, ge=1)
    fraction: float = Field(0.25, gt=0, le=1)
    max_dist: float = Field(0.02, ge=0, le=1)
    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute values (N, C, H, W), one per channel."""
        goal = images.flatten(1)
        total = goal.abs().sum(1)  # the baseline is 0
        position, values = torch.zeros_like(goal), torch.zeros_like(goal)
        for step in range(1, self.steps + 1):
            gradients = input_gradients(model, position.view_as(images), targets).flatten(1)
            share = step / self.steps
            slowest, fastest = max(share - self.max_dist, 0.0) * goal, min(share + self.max_dist, 1.0) * goal
            # On the way from 0 to its goal, a feature is behind where its magnitude is smaller.
            start = torch.where(position.abs() < slowest.abs(), slowest, position)
            left = (goal - start).abs().sum(1) - total * (1 - share)
            moved = advance(start, fastest, gradients, left, self.fraction)
            values += (moved - position) * gradients
            position = moved
        return values.view_as(images)

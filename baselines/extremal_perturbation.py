"""Extremal perturbations: smooth masks of given areas whose part of the image has the largest logit.

Idea: for each area a, find the mask that shows this share of the image and hides the rest under a blur, so that the
target's logit is as large as possible. The sorted values of the mask are pulled towards those of a perfect mask, a
share a of ones. The map is the sum of the masks over all areas, blurred.
Paper: Fong et al., ICCV 2019.
Library: own code; TorchRay is no longer kept.
Baseline: the image blurred with a deviation of 20 px at 224 px, and less where the mask is between 0 and 1.
Budget: 800 steps for each of the areas 2.5, 5, 10 and 20 %, as for the paper's pointing game; masks of 32 x 32 cells
through a kernel of 3 cells.
Cost: 3200 forwards, 3200 backwards.
Not valid: nowhere refused.
Known limits: the order within a mask means little. The best mask may depend on what the blur makes of the rest. Masks
are made on their cells and enlarged bilinearly, where the paper makes them on pixels.
"""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import target_logits
from interp_core.backbone.blur import blur

COLDNESS = 20.0
LEVELS = 8
MAX_BLUR = 20 / 224  # share of the image's side
FINAL_BLUR = 0.09
RATE, MOMENTUM = 0.01, 0.9


def smooth_masks(cells: Tensor, width: float) -> Tensor:
    """Spread cells over their neighbours: at each point a smooth maximum of cells times a kernel of their distance.

    Args:
        cells: (B, 1, n + 2 r, n + 2 r) in [0, 1] with r = `margin(width)`.
        width: of the kernel, in cells; it is 1 up to half of that.

    Returns:
        (B, 1, n, n) in [0, 1].
    """
    reach = margin(width)
    steps = torch.arange(-reach, reach + 1, device=cells.device, dtype=cells.dtype)
    distance = (steps[:, None].square() + steps[None, :].square()).sqrt() / width
    kernel = torch.exp(-2 * (distance - 0.5).clamp(min=0).square()).flatten()
    values = F.unfold(cells, 2 * reach + 1) * kernel[:, None]
    side = cells.shape[-1] - 2 * reach
    return (values * (COLDNESS * values).softmax(1)).sum(1).view(-1, 1, side, side)


def margin(width: float) -> int:
    """Return the number of cells that a kernel of this width reaches."""
    return ceil(2 * width)


def blur_levels(images: Tensor) -> Tensor:
    """Blur images (N, C, H, W) by equal steps, (N, LEVELS, C, H, W): most of all first, the images last."""
    side = (images.shape[-2] * images.shape[-1]) ** 0.5
    sigmas = [MAX_BLUR * side * (1 - level / (LEVELS - 1)) for level in range(LEVELS - 1)]
    return torch.stack([*(blur(images, sigma) for sigma in sigmas), images], 1)


def show(levels: Tensor, masks: Tensor) -> Tensor:
    """Blur images more where their masks are smaller.

    Args:
        levels: (B, LEVELS, C, H, W), see `blur_levels`.
        masks: (B, 1, H, W) in [0, 1].
    """
    numbers = torch.arange(LEVELS, device=masks.device, dtype=masks.dtype)[:, None, None]
    weights = (1 - (masks * (LEVELS - 1) - numbers).abs()).clamp(min=0)
    return (weights[:, :, None] * levels).sum(1)


def area_losses(masks: Tensor, areas: Tensor) -> Tensor:
    """Compute the mean squared distance (B,) of sorted masks (B, 1, n, n) from perfect masks of `areas` (B,)."""
    values = masks.flatten(1).sort(dim=1).values
    ranks = (torch.arange(values.shape[1], device=masks.device) + 0.5) / values.shape[1]
    return (values - (ranks > 1 - areas[:, None]).to(values)).square().mean(1)


@explainers.register("extremal_perturbation")
class ExtremalPerturbation(Explainer):
    """Sum of the best masks of several areas.

    Fields:
        areas: shares of the image that masks show.
        steps: steps of the optimiser.
        cells: cells of a mask along each side.
        width: of the kernel that makes masks smooth, in cells.
        area_weight: weight of the area against the logit, at the first step.
        growth: factor of that weight at each step.
        internal_batch_size: images, times areas, that go through the model at once.
    """

    title: ClassVar[str] = "Extremal perturbation"
    signed: ClassVar[bool] = False
    batched: ClassVar[bool] = False
    source: ClassVar[str] = "Fong et al. 2019"

    areas: tuple[float, ...] = Field((0.025, 0.05, 0.1, 0.2), min_length=1)
    steps: int = Field(800, ge=2)
    cells: int = Field(32, ge=2)
    width: float = Field(3.0, gt=0)
    area_weight: float = Field(300.0, gt=0)
    growth: float = Field(1.0035, ge=1)
    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""
        count = max(1, self.internal_batch_size // len(self.areas))
        # The same jitter for every image, whatever its batch.
        shifts = (torch.rand(self.steps, 2) * 2 - 1) / self.cells
        pairs = zip(images.split(count), targets.split(count), strict=True)
        masks = torch.cat([self._masks(model, *pair, shifts) for pair in pairs])
        return blur(masks, FINAL_BLUR * min(images.shape[-2:]))

    def _masks(self, model: nn.Module, images: Tensor, targets: Tensor, shifts: Tensor) -> Tensor:
        """Optimise the masks of a few images, and sum them, (N, 1, H, W).

        Args:
            model: the network.
            images: (N, C, H, W).
            targets: (N,).
            shifts: (steps, 2), of the image at each step, as shares of its sides.
        """
        height, width = images.shape[-2:]
        count, side = len(self.areas), self.cells + 2 * margin(self.width)
        levels, classes = blur_levels(images).repeat_interleave(count, 0), targets.repeat_interleave(count)
        areas = torch.tensor(self.areas, device=images.device, dtype=images.dtype).repeat(len(images))
        cells = images.new_full((len(classes), 1, side, side), 0.5).requires_grad_()
        optimiser = torch.optim.SGD([cells], lr=RATE, momentum=MOMENTUM, dampening=MOMENTUM)
        for step, shift in enumerate(shifts.tolist()):
            masks = smooth_masks(cells, self.width)
            large = F.interpolate(masks, (height, width), mode="bilinear", align_corners=False).clamp(0, 1)
            moved = show(levels, large).roll((round(shift[0] * height), round(shift[1] * width)), (2, 3))
            # All values are equal at first, and have no order for an area.
            weight = self.area_weight * self.growth**step if step > 0 else 0.0
            losses = weight * area_losses(masks, areas) - target_logits(model(moved), classes)
            cells.grad = torch.autograd.grad(losses.sum(), cells)[0]
            optimiser.step()
            with torch.no_grad():
                cells.clamp_(0, 1)
        with torch.no_grad():
            masks = smooth_masks(cells, self.width).unflatten(0, (len(images), count)).sum(1)
            return F.interpolate(masks, (height, width), mode="bilinear", align_corners=False)

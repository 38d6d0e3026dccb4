"""Replacements for the part of an image that is taken away, computed on the images' own device.

* blur: a Gaussian, with the weights renormalised at the border, so that nothing darkens there.
* fill: in-painting from what is kept, coarse to fine: pull-push (Gortler et al., The Lumigraph, 1996), a normalised
  convolution on a pyramid. Linear in the image, as the imputation of ROAD (arXiv 2202.00449), without a system of
  equations.
* mean: the mean colour of each image.

Limits: large shapes stay visible under a blur. A fill is smooth where the image was textured.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_core.backbone.constants import constant
from interp_core.backbone.geometry import CellGrid, full_precision, resize
from interp_core.knowledge.term import TINY

Background = Literal["blur", "fill", "mean"]


def make_background(name: Background, images: Tensor, keep: Tensor, sigma: float) -> Tensor:
    """Make the images (N, C, H, W) to lay behind what is kept.

    Args:
        name: "blur", "fill" or "mean".
        images: (N, C, H, W).
        keep: (N, 1, H, W) in [0, 1], 1 where the image is kept; used by "fill" only.
        sigma: standard deviation of "blur", as a share of the longer side.
    """
    if name == "fill":
        return fill(images, keep)
    if name == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    return blur(images, sigma * max(images.shape[-2:]))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images (N, C, H, W) by a Gaussian of sigma > 0 pixels.

    The blur is computed at points about sigma / 3 apart by two small matrix products, and is linear in between, so a
    large sigma takes no longer than a small one. The error is below 1 % of the largest difference in the image.
    """
    height, width = images.shape[-2:]
    step = max(1, math.floor(sigma / 3))
    down, across = (_gaussian(side, sigma, step).to(images) for side in (height, width))
    with full_precision(images.device):
        coarse = down @ images @ across.t()
    return coarse if step == 1 else resize(coarse, height, width, CellGrid.square(0.0, step))


@constant
def _gaussian(side: int, sigma: float, step: int) -> Tensor:
    """Return (points, side) weights around every `step`-th pixel, up to the last or beyond; rows sum to 1."""
    points = torch.arange(math.ceil((side - 1) / step) + 1, dtype=torch.float64) * step
    weights = torch.exp(-((points[:, None] - torch.arange(side)) / sigma).square() / 2)
    return (weights / weights.sum(1, keepdim=True)).float()


def fill(images: Tensor, keep: Tensor) -> Tensor:
    """Fill what is not kept of images (N, C, H, W) from what is; zero where nothing is kept.

    Args:
        images: (N, C, H, W).
        keep: (N, 1, H, W) in [0, 1]; soft values blend.

    Each level holds colours v and their confidence w. Going down, blocks of two by two become v' = sum w v / sum w,
    w' = mean w. Going up, v <- w v + (1 - w) up(v'). So an image that is kept a little everywhere is filled from
    its surroundings, not from itself.
    """
    if max(images.shape[-2:]) == 1:
        return images * (keep > 0)
    size = images.shape[-2:]
    confidence = _halve(keep)
    coarse = _halve(images * keep) / confidence.clamp(min=TINY)
    below = fill(coarse, confidence)
    return keep * images + (1 - keep) * F.interpolate(below, size, mode="bilinear", align_corners=False)


def _halve(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)

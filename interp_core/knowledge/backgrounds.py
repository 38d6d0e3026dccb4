"""What stands in for the part of an image that is taken away: pure functions on the images' own device.

* blur: a Gaussian, with the weights renormalised at the border, so that nothing darkens there.
* fill: the removed part in-painted from what is kept, coarse to fine: pull-push (Gortler et al., The Lumigraph, 1996),
  a normalised convolution on a pyramid. Linear in the image, as the imputation of ROAD (arXiv 2202.00449), without a
  system of equations.
* mean: the mean colour of each image.

Limits: a blur leaves large shapes to be seen; a fill is smooth where the image was textured.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_core.backbone.constants import constant
from interp_core.backbone.geometry import full_precision, resize

Background = Literal["blur", "fill", "mean"]
TINY = 1e-6


def background(name: Background, images: Tensor, keep: Tensor, sigma: float) -> Tensor:
    """Images (N, C, H, W) to lay behind what is kept.

    Args:
        name: "blur", "fill" or "mean".
        images: (N, C, H, W).
        keep: (N, 1, H, W) in [0, 1], what is kept; only "fill" asks.
        sigma: of "blur", as a share of the longer side.
    """
    if name == "fill":
        return fill(images, keep)
    if name == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    return blur(images, sigma * max(images.shape[-2:]))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of images (N, C, H, W) by sigma > 0 pixels.

    Computed at points about sigma / 3 apart, between which it is linear, by two small products: no longer for a large
    sigma than for a small one. Off the full Gaussian by less than 1 % of the largest difference in the image.
    """
    height, width = images.shape[-2:]
    step = max(1, math.floor(sigma / 3))
    down, across = (_gaussian(side, sigma, step).to(images) for side in (height, width))
    with full_precision(images.device):
        coarse = down @ images @ across.t()
    return coarse if step == 1 else resize(coarse, height, width, 0.0, step)


@constant
def _gaussian(side: int, sigma: float, step: int) -> Tensor:
    """(points, side) weights around every `step`-th pixel, from the first to the last or beyond; rows sum to 1."""
    points = torch.arange(math.ceil((side - 1) / step) + 1, dtype=torch.float64) * step
    weights = torch.exp(-((points[:, None] - torch.arange(side)) / sigma).square() / 2)
    return (weights / weights.sum(1, keepdim=True)).float()


def fill(images: Tensor, keep: Tensor) -> Tensor:
    """Images (N, C, H, W) with what is not kept in-painted from what is; where nothing is kept, zero.

    Args:
        images: (N, C, H, W).
        keep: (N, 1, H, W) in [0, 1]; soft values blend.

    Each level holds colours v and how far they are known, w. Going down, blocks of two by two become
    v' = sum w v / sum w, w' = mean w; going up, what is not known comes from below: v <- w v + (1 - w) up(v'). So an
    image of which everything is kept a little is filled from afar, and not from itself.
    """
    if max(images.shape[-2:]) == 1:
        return images * (keep > 0)
    size = images.shape[-2:]
    known = _halved(keep)
    coarse = _halved(images * keep) / known.clamp(min=TINY)
    below = fill(coarse, known)
    return keep * images + (1 - keep) * F.interpolate(below, size, mode="bilinear", align_corners=False)


def _halved(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)

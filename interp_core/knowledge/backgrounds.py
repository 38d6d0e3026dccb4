"""Replacements for the part of an image that is taken away, computed on the images' own device.

* blur: a Gaussian, with the weights renormalised at the border, so that nothing darkens there.
* fill: in-painting from what is kept, coarse to fine: pull-push (Gortler et al., The Lumigraph, 1996), a normalised
  convolution on a pyramid. Linear in the image, as the imputation of ROAD (arXiv 2202.00449), without a system of
  equations.
* mean: the mean colour of each image.

Limits: large shapes stay visible under a blur. A fill is smooth where the image was textured.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from interp_core.backbone.blur import blur
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

"""Blur images by a Gaussian, on their own device.

The weights are renormalised at the border, so that nothing darkens there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from interp_core.backbone.constants import constant
from interp_core.backbone.geometry import CellGrid, full_precision, resize


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

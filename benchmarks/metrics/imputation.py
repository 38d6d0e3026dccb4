"""Linear imputation of missing pixels from their neighbours.

Each missing pixel is the weighted mean of its eight neighbours, missing ones included: 1/6 for edge neighbours and 1/12
for diagonal ones. This is a linear system per image, symmetric and positive definite. It is solved for many images at
once by conjugate gradients from a coarse-to-fine first guess.

Source: Rong et al. 2022 (ROAD), who add a little noise afterwards.

Known limit: large holes take many steps. The residual is at most `TOLERANCE` of the right-hand side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 1e-6
MAX_STEPS = 1000
CHECK_EVERY = 10  # steps between two checks of convergence


def impute(images: Tensor, missing: Tensor) -> Tensor:
    """Fill the missing pixels of images.

    Args:
        images: (N, C, H, W).
        missing: (N, 1, H, W) bool; at least one pixel of each image is present.

    Returns:
        (N, C, H, W); present pixels do not change.
    """
    hole = missing.to(images.dtype)
    present = images * (1 - hole)
    weight = neighbour_sum(torch.ones_like(hole))
    right = neighbour_sum(present) * hole
    return present + solve(hole, weight, right, first_guess(present, 1 - hole) * hole)


def neighbour_sum(maps: Tensor) -> Tensor:
    """Compute the weighted sum of each pixel's eight neighbours, (N, C, H, W).

    There are zeros beyond the border. Sums of slices are five times as fast on a CPU as a convolution of single
    channels.
    """
    padded = F.pad(maps, (1, 1, 1, 1))
    sides = padded[..., :-2] + padded[..., 2:]
    rows = sides + 2 * padded[..., 1:-1]
    return (rows[..., :-2, :] + rows[..., 2:, :] + 2 * sides[..., 1:-1, :]) / 12


def solve(hole: Tensor, weight: Tensor, right: Tensor, guess: Tensor) -> Tensor:
    """Solve weight * x - neighbour_sum(x) = right on the hole, by conjugate gradients.

    Solved images leave the batch, since small holes converge long before large ones.

    Args:
        hole: (N, 1, H, W), 1 where x is unknown.
        weight: (N, 1, H, W), sum of the weights of the neighbours within the image.
        right: (N, C, H, W), 0 outside the hole.
        guess: (N, C, H, W), 0 outside the hole.
    """
    bound = TOLERANCE**2 * _dot(right, right / weight).clamp(min=torch.finfo(right.dtype).tiny)
    solved, rows = guess.clone(), torch.arange(len(guess), device=guess.device)
    x, residual = guess, right - _system(guess, hole, weight)
    direction, size = residual / weight, _dot(residual, residual / weight)
    for step in range(MAX_STEPS):
        if step % CHECK_EVERY == 0:
            solved[rows] = x
            unsolved = (size > bound).flatten(1).any(1)
            if not bool(unsolved.any()):
                break
            if not bool(unsolved.all()):
                rows, hole, weight, bound = rows[unsolved], hole[unsolved], weight[unsolved], bound[unsolved]
                x, residual, direction, size = x[unsolved], residual[unsolved], direction[unsolved], size[unsolved]
        along = _system(direction, hole, weight)
        length = _ratio(size, _dot(direction, along))
        x, residual = x + length * direction, residual - length * along
        conditioned = residual / weight
        new = _dot(residual, conditioned)
        direction, size = conditioned + _ratio(new, size) * direction, new
    else:
        solved[rows] = x
    return solved


def _system(x: Tensor, hole: Tensor, weight: Tensor) -> Tensor:
    return (weight * x - neighbour_sum(x)) * hole


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Divide a by b, 0 where b is 0.

    A solved image then stays as it is while others go on.
    """
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), 0.0)


def first_guess(values: Tensor, share: Tensor) -> Tensor:
    """Fill missing pixels from images of half the size.

    These are filled the same way.

    Args:
        values: (N, C, H, W), means over present pixels times `share`; 0 for missing pixels.
        share: (N, 1, H, W), share of present pixels; 1 or 0 at full size.
    """
    if bool((share > 0).all()) or min(values.shape[-2:]) < 2:
        return values / share.clamp(min=torch.finfo(share.dtype).tiny)
    size = values.shape[-2:]
    half_values, half_share = (F.avg_pool2d(maps, 2, ceil_mode=True) for maps in (values, share))
    coarse = F.interpolate(first_guess(half_values, half_share), size, mode="bilinear", align_corners=False)
    return torch.where(share > 0, values / share.clamp(min=torch.finfo(share.dtype).tiny), coarse)

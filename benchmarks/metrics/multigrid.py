"""Precondition the system of missing pixels by one V-cycle over coarser and coarser grids.

The system is weight * x - neighbour_sum(x) = right on a hole: each missing pixel is the weighted mean of its eight
neighbours, 1/6 for edge neighbours and 1/12 for diagonal ones. Conjugate gradients alone take hundreds of steps for a
large hole, since a step carries a value one pixel further. With a V-cycle they take about ten, whatever its size.

A coarser cell is in the hole if all four of its pixels are. Damped Jacobi steps smooth, the same number before and
after, and restriction is the transpose of interpolation. So the cycle is symmetric, as conjugate gradients need it.

Source: McAdams, Sifakis and Teran 2010, multigrid as a preconditioner on irregular domains.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

DAMPING = 0.8
COARSEST_STEPS = 4
# Grids on which less of the image is missing would cost more than they save.
LEAST_SHARE = 0.02


class Level(NamedTuple):
    """One grid.

    Attributes:
        hole: (N, 1, h, w), 1 where x is unknown.
        weight: (N, 1, h, w), sum of the weights of the neighbours within the grid.
        step: (N, 1, h, w), factor of a Jacobi step, 0 outside the hole.
    """

    hole: Tensor
    weight: Tensor
    step: Tensor


def neighbour_sum(maps: Tensor) -> Tensor:
    """Compute the weighted sum of each pixel's eight neighbours, (N, C, H, W).

    There are zeros beyond the border. Sums of slices are five times as fast on a CPU as a convolution of single
    channels.
    """
    padded = F.pad(maps, (1, 1, 1, 1))
    sides = padded[..., :-2] + padded[..., 2:]
    rows = torch.add(sides, padded[..., 1:-1], alpha=2)
    total = rows[..., :-2, :] + rows[..., 2:, :]
    return total.add_(sides[..., 1:-1, :], alpha=2).div_(12)


def apply_system(x: Tensor, level: Level) -> Tensor:
    """Compute weight * x - neighbour_sum(x) on the hole, 0 outside, (N, C, H, W)."""
    return (level.weight * x - neighbour_sum(x)).mul_(level.hole)


def build_levels(hole: Tensor) -> list[Level]:
    """Build the grids of a hole (N, 1, H, W), the finest first."""
    levels = []
    while True:
        weight = neighbour_sum(torch.ones_like(hole))
        levels.append(Level(hole, weight, DAMPING * hole / weight))
        if min(hole.shape[-2:]) < 8:
            return levels
        hole = -F.max_pool2d(-_pad_to_even(hole), 2)
        if float(hole.mean()) < LEAST_SHARE:
            return levels


def run_cycle(right: Tensor, levels: list[Level]) -> Tensor:
    """Solve the system approximately by one V-cycle from 0.

    Args:
        right: (N, C, H, W), 0 outside the hole.
        levels: grids, the finest first.
    """
    level = levels[0]
    x = level.step * right
    if len(levels) > 1:
        coarse_right = restrict(right - apply_system(x, level)).mul_(levels[1].hole)
        x.addcmul_(interpolate(run_cycle(coarse_right, levels[1:]), right.shape[-2:]), level.hole)
    else:
        for _ in range(COARSEST_STEPS):
            x.addcmul_(right - apply_system(x, level), level.step)
    return x.addcmul_(right - apply_system(x, level), level.step)


def interpolate(maps: Tensor, size: torch.Size) -> Tensor:
    """Interpolate maps linearly to twice their size, cut to `size`, (N, C, H, W)."""
    return _double(_double(maps, 2)[..., : size[0], :], 3)[..., : size[1]]


def restrict(maps: Tensor) -> Tensor:
    """Sum maps to half their size with the weights of `interpolate`, its transpose."""
    return _halve(_halve(_pad_to_even(maps), 2), 3)


def _double(maps: Tensor, axis: int) -> Tensor:
    """Interpolate along one axis: 3/4 of the nearest cell and 1/4 of the next."""
    length = maps.shape[axis]
    before = torch.cat([maps.narrow(axis, 0, 1), maps.narrow(axis, 0, length - 1)], axis)
    after = torch.cat([maps.narrow(axis, 1, length - 1), maps.narrow(axis, length - 1, 1)], axis)
    pairs = torch.stack([torch.lerp(maps, before, 0.25), torch.lerp(maps, after, 0.25)], axis + 1)
    return pairs.flatten(axis, axis + 1)


def _halve(maps: Tensor, axis: int) -> Tensor:
    """Apply the transpose of `_double`."""
    first, second = maps.unflatten(axis, (-1, 2)).unbind(axis + 1)
    length = first.shape[axis]
    total = (first + second).mul_(0.75)
    total.narrow(axis, 0, length - 1).add_(first.narrow(axis, 1, length - 1), alpha=0.25)
    total.narrow(axis, 1, length - 1).add_(second.narrow(axis, 0, length - 1), alpha=0.25)
    total.narrow(axis, 0, 1).add_(first.narrow(axis, 0, 1), alpha=0.25)
    total.narrow(axis, length - 1, 1).add_(second.narrow(axis, length - 1, 1), alpha=0.25)
    return total


def _pad_to_even(maps: Tensor) -> Tensor:
    """Append a row and a column of zeros where their number is odd."""
    height, width = maps.shape[-2:]
    return F.pad(maps, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else maps

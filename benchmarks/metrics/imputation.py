"""Linear imputation of missing pixels from their neighbours.

Each missing pixel is the weighted mean of its eight neighbours, missing ones included: 1/6 for edge neighbours and 1/12
for diagonal ones. This is a linear system per image, symmetric and positive definite. It is solved by conjugate
gradients from a coarse-to-fine first guess, preconditioned by a multigrid cycle.

Source: Rong et al. 2022 (ROAD), who add a little noise afterwards.

Known limit: the residual is at most `TOLERANCE` of the right-hand side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.metrics.multigrid import Level, apply_system, build_levels, neighbour_sum, run_cycle

TOLERANCE = 1e-6
MAX_STEPS = 200
# Larger batches would leave the cache of a CPU core.
CACHED_VALUES = 2**18


def impute(images: Tensor, missing: Tensor) -> Tensor:
    """Fill the missing pixels of images.

    Args:
        images: (N, C, H, W).
        missing: (N, 1, H, W) bool; at least one pixel of each image is present.

    Returns:
        (N, C, H, W); present pixels do not change.
    """
    is_cpu = images.device.type == "cpu"
    size = max(1, CACHED_VALUES // images[0].numel()) if is_cpu and len(images) else max(1, len(images))
    parts = zip(images.split(size), missing.split(size), strict=True)
    return torch.cat([_impute_batch(*part) for part in parts])


def _impute_batch(images: Tensor, missing: Tensor) -> Tensor:
    hole = missing.to(images.dtype)
    present = images * (1 - hole)
    right = neighbour_sum(present) * hole
    return present + solve(build_levels(hole), right, first_guess(present, 1 - hole) * hole)


def solve(levels: list[Level], right: Tensor, guess: Tensor) -> Tensor:
    """Solve weight * x - neighbour_sum(x) = right on the hole, by conjugate gradients.

    Args:
        levels: grids of the hole, the finest first.
        right: (N, C, H, W), 0 outside the hole.
        guess: (N, C, H, W), 0 outside the hole.
    """
    weight = levels[0].weight
    bound = TOLERANCE**2 * _dot(right, right / weight).clamp(min=torch.finfo(right.dtype).tiny)
    x, residual = guess, right - apply_system(guess, levels[0])
    direction = conditioned = run_cycle(residual, levels)
    size = _dot(residual, conditioned)
    for _ in range(MAX_STEPS):
        if not bool((_dot(residual, residual / weight) > bound).any()):
            break
        along = apply_system(direction, levels[0])
        length = _ratio(size, _dot(direction, along))
        x, residual = x + length * direction, residual - length * along
        conditioned = run_cycle(residual, levels)
        new = _dot(residual, conditioned)
        direction, size = conditioned + _ratio(new, size) * direction, new
    return x


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

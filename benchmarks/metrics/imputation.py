"""Linear imputation of missing pixels from their neighbours.

Each missing pixel is the weighted mean of its eight neighbours, missing ones included: 1/6 for edge neighbours and 1/12
for diagonal ones. This is a linear system per image, symmetric and positive definite. It is solved for many images at
once by conjugate gradients from a coarse-to-fine first guess. Scattered holes take few steps. On a CPU a system that
takes many, as that of one large hole does, is solved by a sparse factorisation instead.

Source: Rong et al. 2022 (ROAD), who add a little noise afterwards.

Known limit: large holes take many steps on a GPU. The residual is at most `TOLERANCE` of the right-hand side.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

TOLERANCE = 1e-6
MAX_STEPS = 1000
# A factorisation takes as long as 100 to 300 steps in an image of 224 pixels a side.
MAX_STEPS_ON_CPU = 120
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
    all_holes, all_weights = hole, weight
    x, residual = guess, right - _system(guess, hole, weight)
    direction, size = residual / weight, _dot(residual, residual / weight)
    for step in range(MAX_STEPS_ON_CPU if guess.device.type == "cpu" else MAX_STEPS):
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
        if guess.device.type == "cpu":
            unsolved = (size > bound).flatten(1).any(1)
            for row in rows[unsolved].tolist():
                solved[row] = factorise_and_solve(all_holes[row, 0], all_weights[row, 0], right[row])
    return solved


def factorise_and_solve(hole: Tensor, weight: Tensor, right: Tensor) -> Tensor:
    """Solve the system of one image by a sparse factorisation.

    Args:
        hole: (H, W), 1 where x is unknown.
        weight: (H, W), sum of the weights of the neighbours within the image.
        right: (C, H, W), 0 outside the hole.
    """
    inside = hole.numpy() > 0
    number = np.pad(np.where(inside, np.cumsum(inside).reshape(inside.shape) - 1, -1), 1, constant_values=-1)
    rows, columns, values = [number[1:-1, 1:-1][inside]], [number[1:-1, 1:-1][inside]], [weight.numpy()[inside]]
    height, width = inside.shape
    for down, along in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = number[1 + down : 1 + down + height, 1 + along : 1 + along + width]
        both = inside & (other >= 0)
        pair = number[1:-1, 1:-1][both], other[both]
        share = np.full(len(pair[0]), -1 / 12 if down and along else -1 / 6)
        rows, columns, values = [*rows, *pair], [*columns, *reversed(pair)], [*values, share, share]
    matrix = sparse.csc_matrix(
        (np.concatenate(values).astype(np.float64), (np.concatenate(rows), np.concatenate(columns)))
    )
    # The options for symmetric matrices keep the factors small.
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solved = torch.zeros_like(right)
    solved[:, torch.from_numpy(inside)] = torch.from_numpy(
        factors.solve(right.numpy()[:, inside].T.astype(np.float64))
    ).T.to(right)
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

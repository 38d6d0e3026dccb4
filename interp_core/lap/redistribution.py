"""Redistribution: carry the head's contributions to finer grids and to pixels, adding and losing nothing.

The head's cells are coarse. The levels below see where in a cell the features lie, but belong to no class. From each
level to the next finer one, contributions R move inside windows:

    A_l(p | q) = K(p, q) e_l(p) / sum_{p'} K(p', q) e_l(p'),        e_l = |W| A_l exp(s_l)
    R_l(p)     = sum_q A_l(p | q) R_{l+1}(q) = e_l(p) (K [R_{l+1} / K^T e_l])(p)

K(p, q) >= 0 is a tent around the parent cell q, as wide as `REACH` says, so that neighbouring windows overlap. It is a
product of two small matrices, one for each axis, and serves any strides and sizes. The weights of a parent sum to 1, so
every grid has the same sum: contributions + bias = logit. |W| A_l is the gate of the forward pass, where the level has
one that is on: the weights that decide are then the weights that distribute. s_l is learned; 0 is smooth upsampling.

    t_L = relu(Q (A W_k * X_L) + E R_L),  t_L = relu(t_L + conv3x3(t_L))      class k through its own parts
    t_l = relu(u + conv3x3[u, P_l X_l, u * P_l X_l]),  u = up(t_{l+1})       for each level below, the finest last
    s_l = 4 tanh(o_l . t_l / 4)

Maps are scaled by their root mean square. No parameter belongs to a class, so one training serves classes that it did
not see, and another last layer. From the finest cells to their pixels p the weights are 0.2 + mean_c |x_c(p)|, the
distance from the mean colour of the data, which is 0 in normalised images. It moves evidence within a cell, no further.

The idea follows the excitation backpropagation of Zhang et al. (arXiv 1608.00507), which conserves a probability; here
signed contributions of an exact decomposition move, windows overlap, and the weights are learned from masked images.

Limits: within its reach evidence may be put where it does not lie. Where the head is not linear, contributions are its
first-order term and scores know class k by R_L alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import ceil
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.backbone.constants import constant
from interp_core.backbone.geometry import CellGrid, full_precision
from interp_core.lap.blocks import pointwise, project

if TYPE_CHECKING:
    from interp_core.backbone.inspect import BackboneInfo
    from interp_core.backbone.sites import Site

# Largest number of cells a side; a finer grid costs more than it shows. At 224 pixels cells are 8 pixels wide.
MAX_CELLS = 40
REACH = 1.0  # half-width of a window, in parent cells; whole numbers, else flat evidence would become uneven
MAX_SCORE = 4.0
DETAIL = 0.2  # in standard deviations of the images; with 0, pixels of the mean colour would have no value at all


@constant
def window_matrix(children: int, parents: int, first: float, pitch: float, reach: float) -> Tensor:
    """Return the weights K of one axis, (children, parents) >= 0.

    A tent around each parent. Parents whose centres lie outside the children's are moved onto the nearest child, so
    that each reaches at least one.

    Args:
        children: number of cells of the finer grid.
        parents: number of cells of the coarser grid.
        first: centre of the first parent, counted in children.
        pitch: children per parent.
        reach: half-width of the tent, in parents, >= 1.

    >>> window_matrix(4, 2, first=0.5, pitch=2.0, reach=1.0)
    tensor([[0.7500, 0.0000],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.0000, 0.7500]])
    """
    fine = torch.arange(children, dtype=torch.float64)
    coarse = (first + pitch * torch.arange(parents, dtype=torch.float64)).clamp(0, children - 1)
    return (1 - (fine[:, None] - coarse).abs() / (reach * max(pitch, 1.0))).clamp(min=0).float()


def move(contributions: Tensor, weights: Tensor, grid: CellGrid, parents: CellGrid, reach: float = REACH) -> Tensor:
    """Move contributions to a finer grid.

    The sum of each image stays as it is, up to rounding.

    Args:
        contributions: R of the parents' grid, (N, 1, h, w).
        weights: e > 0 of the children, (N, 1, H, W).
        grid: of the children.
        parents: grid of the contributions.
        reach: half-width of a window in parent cells, >= 1.

    Returns:
        (N, 1, H, W).
    """
    rows, columns = (
        window_matrix(
            weights.shape[axis - 2],
            contributions.shape[axis - 2],
            (parents.first[axis] - grid.first[axis]) / grid.pitch[axis],
            parents.pitch[axis] / grid.pitch[axis],
            reach,
        ).to(weights)
        for axis in (0, 1)
    )
    with full_precision(weights.device):
        totals = rows.t() @ weights @ columns
        return weights * (rows @ (contributions.to(weights) / totals) @ columns.t())


@dataclass(frozen=True)
class FinerLevel:
    """Input of one level below the head.

    Attributes:
        features: (N, C, h, w), before the level's gate.
        gate: |W| A of its gate, (N, 1, h, w); None where it has none.
        grid: position of its cells.
    """

    features: Tensor
    gate: Tensor | None
    grid: CellGrid


@dataclass(frozen=True)
class MovedLevel:
    """Contributions on the grid of one level.

    Attributes:
        contributions: R, (N, 1, h, w).
        unmoved: what R would be with s = 0 on this level, (N, 1, h, w).
        weights: e, (N, 1, h, w).
    """

    contributions: Tensor
    unmoved: Tensor
    weights: Tensor


class Redistribution(nn.Module):
    """Learned window weights of each level; see the head of this file.

    Args:
        channels: C of the last features.
        below: channels of the levels below, finest first.
        hidden: width of the scorers.
    """

    def __init__(self, channels: int, below: Sequence[int], hidden: int = 24) -> None:
        super().__init__()
        # These names are keys of saved models.
        self.parts = nn.Conv2d(channels, hidden, 1, bias=False)
        self.evidence = nn.Conv2d(1, hidden, 1)
        self.around = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, hidden, 1) for c in reversed(below))
        self.near = nn.ModuleList(nn.Conv2d(3 * hidden, 3 * hidden, 3, padding=1, groups=3 * hidden) for _ in below)
        self.mix = nn.ModuleList(nn.Conv2d(3 * hidden, hidden, 1) for _ in below)
        self.out = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in below)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set all scores to 0 again, which is smooth upsampling.

        The other convolutions reset themselves.
        """
        for layer in self.out:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, parts: Tensor | None, contributions: Tensor, grid: CellGrid, below: Sequence[FinerLevel]
    ) -> list[MovedLevel]:
        """Carry contributions down.

        Args:
            parts: gated features times the class' weights, (N, C, h, w); None where the head is not linear.
            contributions: of the class at the head, (N, 1, h, w).
            grid: of the head.
            below: levels below the head, finest first.

        Returns:
            One entry per level, finest first.
        """
        # Scores learn from features and do not teach them.
        state = project(self.evidence, contributions)
        state = F.relu(state if parts is None else state + project(self.parts, parts.detach()))
        state = F.relu(state + self.around(state))
        levels: list[MovedLevel] = []
        for index, level in enumerate(reversed(below)):
            state = self._state_of(index, state, level.features.detach())
            scores = pointwise(state, self.out[index].weight, self.out[index].bias)  # type: ignore[arg-type]
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            weights = torch.exp(MAX_SCORE * torch.tanh(scores / MAX_SCORE))
            base = torch.ones_like(weights) if level.gate is None else level.gate.to(weights)
            unmoved = move(contributions, base, level.grid, grid)
            contributions, grid = move(contributions, base * weights, level.grid, grid), level.grid
            levels.append(MovedLevel(contributions, unmoved, base * weights))
        return levels[::-1]

    def _state_of(self, index: int, state: Tensor, features: Tensor) -> Tensor:
        """Combine the state of the level above with a level's features."""
        above = F.interpolate(state, features.shape[-2:], mode="bilinear", align_corners=False)
        fine = project(self.lateral[index], features)
        joint = self.near[index](torch.cat([above, fine, above * fine], 1))
        return F.relu(above + pointwise(joint, self.mix[index].weight, self.mix[index].bias))  # type: ignore[arg-type]


def to_pixels(contributions: Tensor, grid: CellGrid, images: Tensor) -> Tensor:
    """Spread contributions (N, 1, h, w) over the pixels of their cells, (N, 1, H, W) float32, with the same sum.

    Within a cell each pixel counts by its distance from the mean colour of the data.

    Args:
        contributions: of the finest level.
        grid: of that level.
        images: (N, C, H, W), normalised.
    """
    return move(contributions, detail(images), CellGrid(), grid)


def detail(images: Tensor) -> Tensor:
    """Compute the distance of each pixel from the mean colour.

    From normalised images to (N, 1, H, W) float32 > 0.
    """
    # One channel after the other takes a quarter of the time of a mean, with the channels last.
    total = reduce(torch.add, [images[:, c : c + 1].float().abs() for c in range(images.shape[1])])
    return DETAIL + total / images.shape[1]


def levels_below(info: BackboneInfo, cell: int | None, gated: Sequence[Site]) -> tuple[Site, ...]:
    """Choose the levels that contributions are carried to, finest first.

    There is one per resolution, the last of the network, and every level that has a gate.

    Args:
        info: of the backbone.
        cell: least number of input pixels per cell; None for at most `MAX_CELLS` cells a side.
        gated: sites of the gates.
    """
    least = ceil(max(info.size) / MAX_CELLS) if cell is None else cell
    levels = {site.reduction: site for site in info.sites if least <= site.reduction < info.reduction}
    levels |= {site.reduction: site for site in gated}
    return tuple(levels[reduction] for reduction in sorted(levels))

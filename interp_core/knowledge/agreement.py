"""Agreement: maps agree from level to level, and follow the image when it moves.

The comparison of levels is ours. The comparison of moved images is the equivariance of SEAM (Wang et al., CVPR 2020,
arXiv 2004.04581), on concept maps instead of class activation maps.

Limits: cells of neighbouring levels are matched as if both grids tiled the image. Flips are wrong where left and right
carry meaning (digits, hearts): set `flip` to False there.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.knowledge.term import Term, mean_where, terms
from interp_core.knowledge.view import View, column_of


@terms.register("agreement")
class Agreement(Term):
    """Agreement of neighbouring levels, and of maps with the moved image. Squared scores, in [0, 2].

    Levels: mean over neighbours and positions of (pool(S_l) - S_{l+1})^2, S_l = max_j I_j of a level below, pooled to
    the grid of the level above, S_L = max over present k of I_k at the head. The upper level gets no gradient: it knows
    the label, and the lower one follows.
    Moves: mean over pixels of (I_k(T x) - T I_k(x))^2 at input resolution, of one present class k an image. T is a
    horizontal flip (every second step) and a shift, the same for all images of a step. Costs one pass.

    Fields:
        levels: whether neighbouring levels are compared.
        moves: whether maps of moved images are compared.
        pool: how a finer map is brought to the coarser grid: "max" asks a cell for one high position, "mean" for all.
        flip: whether images are flipped.
        shift: largest shift along each axis, as a share of that side, in [0, 0.5].
        share: part of the images that is moved and passed again, in (0, 1]; the first of a batch.
    """

    weight: float = Field(0.3, ge=0)
    levels: bool = True
    moves: bool = True
    pool: Literal["max", "mean"] = "max"
    flip: bool = True
    shift: float = Field(0.1, ge=0, le=0.5)
    share: float = Field(1.0, gt=0, le=1)

    @property
    def passes(self) -> int:
        """One, if moved images are compared."""
        return int(self.moves)

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        value = view.maps.new_zeros(())
        if self.levels:
            value = value + self._level_loss(view)
        return value + self._move_loss(view) if self.moves else value

    def _level_loss(self, view: View) -> Tensor:
        head = view.head(self.of)
        top = (head.maps * (head.present > 0)[..., None, None]).amax(1, keepdim=True)
        levels = [*(maps.amax(1, keepdim=True) for maps in view.below.values()), top]
        gaps = [(self._pool_to(fine, coarse) - coarse.detach()).square().mean() for fine, coarse in pairwise(levels)]
        return torch.stack(gaps).mean() if gaps else top.new_zeros(())

    def _pool_to(self, fine: Tensor, coarse: Tensor) -> Tensor:
        pool = F.adaptive_max_pool2d if self.pool == "max" else F.adaptive_avg_pool2d
        return pool(fine, (coarse.shape[-2], coarse.shape[-1]))

    def _move_loss(self, view: View) -> Tensor:
        column, present = view.sample_columns(view.head(self.of))
        rows, columns = (self._draw_source(view, axis) for axis in (-2, -1))
        count = math.ceil(self.share * len(column))
        column, present = column[:count], present[:count]
        images = move(view.images[:count], rows[0], columns[0])
        maps = view.to_image_grid(column_of(view.maps_of(images), column))
        expected = move(view.to_image_grid(column_of(view.maps[:count], column)), rows[0], columns[0])
        inside = (rows[1][:, None] & columns[1]).to(maps)
        gaps = ((maps - expected).square() * inside).sum((1, 2, 3)) / inside.sum()
        return mean_where(gaps, present)

    def _draw_source(self, view: View, axis: int) -> tuple[Tensor, Tensor]:
        """Draw a move along one axis: source index of each row or column, and whether it lies in the image."""
        side = view.images.shape[axis]
        most = round(self.shift * side)
        offset = int(torch.randint(-most, most + 1, (), generator=view.generator))
        flips = axis == -1 and self.flip and bool(torch.randint(2, (), generator=view.generator))
        source = torch.arange(side, device=view.images.device) + offset
        inside = (source >= 0) & (source < side)
        source = source.clamp(0, side - 1)
        return (side - 1 - source if flips else source), inside


def move(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take row i and column j of the output from rows[i] and columns[j] of images (N, C, H, W)."""
    return images.index_select(-2, rows).index_select(-1, columns)

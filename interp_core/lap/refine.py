"""Refinement: take the head's contributions for one class to a finer grid.

The head's cells are coarse. The levels below know where in a cell the relevant features lie, but do not know the
classes. Two small decoders combine both, within the forward pass that classifies. Each computes

    t_L = relu(Q (A W_k * X_L) + P X_L + E [evidence_k, I_k])          class k through its own channels
    t_L = relu(t_L + conv3x3(t_L))
    t_l = relu(u + conv3x3[u, P_l X_l, u * P_l X_l]),  u = up(t_{l+1})  for each level below, the finest last
    y_k = g up(E_k) + o . t_finest + c                                 E_k = I_k max(0, contribution), o = 0 at first

so that its map starts in the order of the head's map. No parameter belongs to a class. So the decoders serve any number
of classes, including those they were not trained on. All maps are in units of their own root mean square.

The first decoder gives s. M = sigmoid(s) in [0, 1] is the region that masking terms open and close: which positions
decide, and how much of the image they are. The second gives r, which is signed: how far the logit falls when the
position is removed, as taught by `Removal`. They share no weights, since each would disturb what the other has learned.
The explanation is the effect, mostly inside the region. Within a cell each pixel p counts by its distance from the mean
colour of the data, which is 0 in normalised images:

    map_k(p) = resize((0.1 + M) softplus(20 r) / 20)(p) (0.2 + mean_c |x_c(p)|)

A small part of the effect counts outside the region, so that the order there is kept. softplus keeps the order of
effects below 0 and hardly changes those above. The constants were chosen on validation images of digits
(results/method/log.md).

Source: the idea follows top-down decoders such as U-Net (arXiv 1505.04597), learned maskers (Dabkowski and Gal, arXiv
1705.07857) and learned explainers (FastSHAP, arXiv 2107.07436), here applied to the network's own contributions. The
form is ours.

Limits: a refined map does not add up to the logit, unlike contributions. Where the head is not linear, the decoders
know class k by its maps of contributions and concept only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.lap.blocks import pointwise, project, unit

if TYPE_CHECKING:
    from interp_core.backbone.inspect import BackboneInfo
    from interp_core.backbone.sites import Site

# Largest number of cells a side; a finer map costs more than it shows. At 224 pixels cells are 8 pixels wide.
MAX_CELLS = 40
OUTSIDE = 0.1  # share of the effect that counts where the region is closed
SHARPNESS = 20.0  # of the softplus


class Refiner(nn.Module):
    """Decoders of region and effects on a finer grid.

    See the head of this file.

    Args:
        channels: C of the last features.
        below: channels of the levels below, finest first; if empty, the grid is the head's.
        hidden: width of the decoders.
    """

    def __init__(self, channels: int, below: Sequence[int], hidden: int = 32) -> None:
        super().__init__()
        self.region = Decoder(channels, below, hidden, gain=1.5, bias=-2.0)
        self.effects = Decoder(channels, below, hidden, gain=0.1, bias=0.0)

    def forward(
        self, parts: Tensor | None, features: Tensor, contributions: Tensor, concept: Tensor, below: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute region scores s and effects r, (N, 1, h, w) each. A loss of one of them needs its decoder alone.

        Args:
            parts: gated features times the class' weights, (N, C, H, W); None where the head is not linear.
            features: last features X_L, (N, C, H, W).
            contributions: of the class, (N, 1, H, W).
            concept: its concept map I_k in [0, 1], (N, 1, H, W).
            below: features of the levels below, finest first.
        """
        inputs = parts, features, contributions, concept, below
        return self.region(*inputs), self.effects(*inputs)


class Decoder(nn.Module):
    """Decoder of one map on the finest grid.

    See the head of this file.

    Args:
        channels: C of the last features.
        below: channels of the levels below, finest first.
        hidden: width.
        gain: initial g.
        bias: initial c.
    """

    def __init__(self, channels: int, below: Sequence[int], hidden: int, gain: float, bias: float) -> None:
        super().__init__()
        # These names are keys of saved models.
        self.parts = nn.Conv2d(channels, hidden, 1, bias=False)
        self.features = nn.Conv2d(channels, hidden, 1)
        self.evidence = nn.Conv2d(2, hidden, 1, bias=False)
        self.around = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, hidden, 1) for c in reversed(below))
        self.down = nn.ModuleList(nn.Conv2d(3 * hidden, hidden, 3, padding=1) for _ in below)
        self.out = nn.Conv2d(hidden, 1, 1)
        self.gain = nn.Parameter(torch.tensor(gain))
        self._gain, self._bias = gain, bias
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Give the map the order of the head's map again.

        All convolutions but the last reset themselves.
        """
        assert self.out.bias is not None
        with torch.no_grad():
            self.gain.fill_(self._gain)
            self.out.weight.zero_()
            self.out.bias.fill_(self._bias)

    def forward(
        self, parts: Tensor | None, features: Tensor, contributions: Tensor, concept: Tensor, below: Sequence[Tensor]
    ) -> Tensor:
        """Compute the map (N, 1, h, w).

        Arguments are as in `Refiner.forward`.
        """
        state = project(self.features, features)
        if parts is not None:
            state = state + project(self.parts, parts)
        maps = torch.cat([unit(contributions), concept], 1)
        state = F.relu(state + pointwise(maps, self.evidence.weight))
        state = F.relu(state + self.around(state))
        for lateral, down, level in zip(self.lateral, self.down, reversed(below), strict=True):
            coarse = F.interpolate(state, level.shape[-2:], mode="bilinear", align_corners=False)
            fine = project(lateral, level)
            state = F.relu(coarse + down(torch.cat([coarse, fine, coarse * fine], 1)))
        start = unit(concept * contributions.clamp(min=0))
        start = F.interpolate(start, state.shape[-2:], mode="bilinear", align_corners=False)
        return self.gain * start + pointwise(state, self.out.weight, self.out.bias)


def levels_to_refine(info: BackboneInfo, finest: int | bool) -> tuple[Site, ...]:
    """Choose the levels that a refined map reads, finest first.

    There is one per resolution, the last of the network.

    Args:
        info: of the backbone.
        finest: least number of input pixels per cell; True for at most `MAX_CELLS` cells a side.
    """
    least = ceil(max(info.size) / MAX_CELLS) if finest is True else int(finest)
    levels = {site.reduction: site for site in info.sites if least <= site.reduction < info.reduction}
    return tuple(levels[reduction] for reduction in sorted(levels))


def map_from_scores(scores: Tensor, effects: Tensor) -> Tensor:
    """Compute the explanation from a refiner's output.

    From (N, 1, h, w) each to (N, 1, h, w) float32 >= 0.
    """
    return combine(scores.float().sigmoid(), effects.float())


def combine(region: Tensor, effects: Tensor) -> Tensor:
    """Compute the explanation from M and r.

    M lies in [0, 1], the explanation is >= 0, and all have one shape.
    """
    return (OUTSIDE + region) * F.softplus(SHARPNESS * effects) / SHARPNESS

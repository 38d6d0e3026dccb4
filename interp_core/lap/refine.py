"""Refinement: the head's evidence for one class, taken down to a finer grid by the features of the levels below.

The head's cells are coarse; where in a cell the evidence lies is known to the levels below, which do not know the
classes. Two small decoders bring both together, within the forward pass that classifies, each in this way:

    t_L = relu(Q (A W_k * X_L) + P X_L + E [evidence_k, I_k])          class k speaks through its own channels
    t_L = relu(t_L + conv3x3(t_L))
    t_l = relu(u + conv3x3[u, P_l X_l, u * P_l X_l]),  u = up(t_{l+1})  each level below, the finest last
    y_k = g up(E_k) + o . t_finest + c                                 E_k = I_k max(0, contribution), o = 0 at first

so that it starts in the order of what the head knows. Nothing in it belongs to a class, so it serves any number of
them, also those it was not trained on. All maps come in units of their own root mean square.

The first gives s, and M = sigmoid(s) in [0, 1] is the region that masking terms open and close: what decides, and how
much of the image that is. The second gives r, signed: how far the logit falls when the place is removed, which
`Removal` teaches. They share no weights, since each would move the other from what it was taught. The explanation is
the effect, mostly where the region is, and within a cell each pixel p takes part as it stands out from the data's mean
colour, which is 0 in normalised images:

    map_k(p) = resize((0.1 + M) softplus(20 r) / 20)(p) (0.2 + mean_c |x_c(p)|)

A small part of the effect counts outside the region, so that the order of what lies there is kept; softplus keeps that
of effects below 0 without changing those above. Chosen on validation images of digits (results/method/log.md).

Idea after top-down decoders such as U-Net (arXiv 1505.04597), learned maskers (Dabkowski and Gal, arXiv 1705.07857)
and learned explainers (FastSHAP, arXiv 2107.07436), fed here by the network's own contributions; the form is ours.
Limits: unlike contributions a refined map does not add up to the logit; where the head is not linear class k speaks
through its evidence map alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.lap.blocks import pointwise

if TYPE_CHECKING:
    from interp_core.backbone.inspect import BackboneInfo, Site

# A map of more cells a side costs more than it shows: at 224 pixels cells of 8 pixels are the finest.
MOST_CELLS = 40
OUTSIDE = 0.1  # how much of the effect counts where the region is closed
SHARPNESS = 20.0  # of the softplus
DETAIL = 0.2  # in units of the deviation of normalised images; 0 would leave pixels of the mean colour out altogether


class Refiner(nn.Module):
    """From what the head knows of one class an image to region and effects on a finer grid; see the head of this file.

    Args:
        channels: C of the last features.
        below: channels of the levels below, the finest first; none keeps the head's grid.
        hidden: width of the decoders.
    """

    def __init__(self, channels: int, below: Sequence[int], hidden: int = 32) -> None:
        super().__init__()
        self.region = Decoder(channels, below, hidden, gain=1.5, bias=-2.0)
        self.effects = Decoder(channels, below, hidden, gain=0.1, bias=0.0)

    def forward(
        self, parts: Tensor | None, features: Tensor, evidence: Tensor, concept: Tensor, below: Sequence[Tensor]
    ) -> Tensor:
        """Region scores s and effects r, (N, 2, h, w), on the finest grid.

        Args:
            parts: gated features times the class' weights, (N, C, H, W); None where the head is not linear.
            features: last features X_L, (N, C, H, W).
            evidence: contributions of the class, (N, 1, H, W).
            concept: its concept map I_k in [0, 1], (N, 1, H, W).
            below: features of the levels below, finest first.
        """
        known = parts, features, evidence, concept.to(evidence.dtype), below
        return torch.cat([self.region(*known), self.effects(*known)], 1)


class Decoder(nn.Module):
    """One map on the finest grid; see the head of this file.

    Args:
        channels: C of the last features.
        below: channels of the levels below, the finest first.
        hidden: width.
        gain: initial g.
        bias: initial c.
    """

    def __init__(self, channels: int, below: Sequence[int], hidden: int, gain: float, bias: float) -> None:
        super().__init__()
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
        """The map is in the order of the head's again; the convolutions before the last reset themselves."""
        with torch.no_grad():
            self.gain.fill_(self._gain)
            self.out.weight.zero_()
            self.out.bias.fill_(self._bias)  # type: ignore[union-attr]

    def forward(
        self, parts: Tensor | None, features: Tensor, evidence: Tensor, concept: Tensor, below: Sequence[Tensor]
    ) -> Tensor:
        """The map (N, 1, h, w); arguments as of `Refiner`."""
        state = self._seen(self.features, features)
        if parts is not None:
            state = state + self._seen(self.parts, parts)
        state = F.relu(state + pointwise(torch.cat([_unit(evidence), concept], 1), self.evidence.weight))
        state = F.relu(state + self.around(state))
        for lateral, down, maps in zip(self.lateral, self.down, reversed(below), strict=True):
            coarse = F.interpolate(state, maps.shape[-2:], mode="bilinear", align_corners=False)
            seen = self._seen(lateral, maps)
            state = F.relu(coarse + down(torch.cat([coarse, seen, coarse * seen], 1)))
        known = _unit(concept * evidence.clamp(min=0))
        known = F.interpolate(known, state.shape[-2:], mode="bilinear", align_corners=False)
        return self.gain * known + pointwise(state, self.out.weight, self.out.bias)

    @staticmethod
    def _seen(layer: nn.Module, maps: Tensor) -> Tensor:
        """A 1x1 convolution of maps in units of their root mean square, dividing the few outputs, not the many inputs.

        Bias and weights are the layer's own.
        """
        weight, bias = layer.weight, layer.bias
        scaled = pointwise(maps, weight) * _scale(maps)  # type: ignore[arg-type]
        return scaled if bias is None else scaled + bias[:, None, None]  # type: ignore[index]


def _scale(maps: Tensor) -> Tensor:
    """1 / root mean square of maps (N, C, H, W), (N, 1, 1, 1)."""
    return torch.rsqrt(maps.square().mean((1, 2, 3), keepdim=True) + 1e-12)


def _unit(maps: Tensor) -> Tensor:
    return maps * _scale(maps)


def levels_to_refine(info: BackboneInfo, finest: int | bool) -> tuple[Site, ...]:
    """The levels below the head that a refined map reads, finest first: one of each resolution, the last there is.

    Args:
        info: of the backbone.
        finest: least number of input pixels per cell; True for what gives maps of at most `MOST_CELLS` cells a side.
    """
    least = ceil(max(info.size) / MOST_CELLS) if finest is True else int(finest)
    found = {site.reduction: site for site in info.sites if least <= site.reduction < info.reduction}
    return tuple(found[reduction] for reduction in sorted(found))


def detail(images: Tensor) -> Tensor:
    """How far each pixel stands out from the mean colour, (N, 1, H, W) float32 > 0, of normalised images."""
    return DETAIL + images.float().abs().mean(1, keepdim=True)


def region_and_effects(scores: Tensor) -> tuple[Tensor, Tensor]:
    """M in [0, 1] and r, (N, 1, h, w) each, in single precision, of what a refiner gave (N, 2, h, w)."""
    region, effects = scores.float().split(1, dim=1)
    return region.sigmoid(), effects


def refined_map(scores: Tensor) -> Tensor:
    """The explanation (N, 1, h, w) >= 0, float32, of what a refiner gave (N, 2, h, w)."""
    return combined(*region_and_effects(scores))


def combined(region: Tensor, effects: Tensor) -> Tensor:
    """The explanation >= 0 of M in [0, 1] and r, all of one shape."""
    return (OUTSIDE + region) * F.softplus(SHARPNESS * effects) / SHARPNESS

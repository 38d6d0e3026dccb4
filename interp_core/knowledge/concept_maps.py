"""Terms on concept maps alone, which cost nothing but their own sums: Presence, Absence, Area, Uniqueness.

Maps I are absolute scores in [0, 1]; a class counts as present or absent by the image's labels, so single- and
multi-label targets are one case. The form of the terms is ours; LAP (arXiv 2201.11808) is the origin of the idea.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from interp_core.knowledge.term import Term, mean_over, mean_where, present_maps, surprise, terms, top_mean
from interp_core.knowledge.view import Part, View


@terms.register("presence")
class Presence(Term):
    """A present class scores high on at least a share of positions: -log top_mean(I_k), over present k, in nats.

    Fields:
        share: the part of positions that must score high, in (0, 1].
    """

    weight: float = Field(0.3, ge=0)
    share: float = Field(0.05, gt=0, le=1)

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        return self.mean_of(view, self._of_part)

    def _of_part(self, part: Part) -> Tensor:
        present, shares = present_maps(part)
        return (surprise(top_mean(present, self.share)) * shares).sum()


@terms.register("absence")
class Absence(Term):
    """An absent class scores low everywhere: -log(1 - top_mean(I_k)), over absent k, in nats.

    Fields:
        share: the highest part of positions that is held down, in (0, 1]; small means everywhere.
    """

    weight: float = Field(0.3, ge=0)
    share: float = Field(0.02, gt=0, le=1)

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        return self.mean_of(view, self._of_part)

    def _of_part(self, part: Part) -> Tensor:
        return mean_over(surprise(1 - top_mean(part.maps, self.share)), part.absent)


@terms.register("area")
class Area(Term):
    """The active share m = mean(I_k) of a present class lies in [low, high].

    "hinge": max(0, m - high)^2 + max(0, low - m)^2, squared shares; silent inside the range.
    "barrier": psi(m - high) + psi(low - m) with psi(z) = -log(-z) / t where z <= -1 / t^2, and its tangent beyond, so
    that it is finite everywhere; pulls away from the bounds already inside (Kervadec et al., log-barrier extensions,
    arXiv 1904.04205). No unit; 1 / t bounds how far from the optimum of the hard constraint it ends.

    "linear": max(0, m - high) + max(0, low - m), shares; pulls with the same force however far m has come.

    Fields:
        low: smallest share, in [0, 1].
        high: largest share, in [low, 1].
        form: "hinge", "barrier" or "linear".
        finest: speak of the finest map of one class drawn for each image instead, the one that masking terms open and
            close: the refined map where the model makes one.
        t: sharpness of the barrier, > 0.
    """

    weight: float = Field(1.0, ge=0)
    low: float = Field(0.02, ge=0, le=1)
    high: float = Field(0.25, ge=0, le=1)
    form: Literal["hinge", "barrier", "linear"] = "hinge"
    finest: bool = False
    t: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Area:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} > {self.high}")
        return self

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        if self.finest:
            drawn = view.drawn(self.of)
            return mean_where(self._cost(drawn.maps.mean((1, 2, 3))), drawn.there)
        return self.mean_of(view, self._of_part)

    def _of_part(self, part: Part) -> Tensor:
        present, shares = present_maps(part)
        return (self._cost(present.mean((1, 2))) * shares).sum()

    def _cost(self, active: Tensor) -> Tensor:
        """Of active shares m, of the same shape."""
        if self.form == "barrier":
            return barrier(active - self.high, self.t) + barrier(self.low - active, self.t)
        over, under = (active - self.high).clamp(min=0), (self.low - active).clamp(min=0)
        return over + under if self.form == "linear" else over.square() + under.square()


def barrier(z: Tensor, t: float) -> Tensor:
    """Log-barrier extension psi of z in [-1, 1], which shall be negative; see `Area`."""
    edge = 1 / t**2
    inside = -torch.log(-z.clamp(max=-edge)) / t
    beyond = t * (z + edge) - math.log(edge) / t
    return torch.where(z <= -edge, inside, beyond)


@terms.register("uniqueness")
class Uniqueness(Term):
    """A position is evidence for one class only: mean over positions of sum_{j<k} I_j I_k / (m - 1), m columns.

    With two classes it is mean(I_1 I_2). The pairs come from (sum I)^2 - sum I^2, so m classes cost m maps. Between
    different concepts of one level below the head where `of` names some. No unit.
    """

    weight: float = Field(0.1, ge=0)

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        groups: dict[str, list[Part]] = {}
        for part in self.parts(view):
            groups.setdefault(part.level, []).append(part)
        return torch.stack([_pairs(group) for group in groups.values()]).mean()


def _pairs(group: list[Part]) -> Tensor:
    meant = torch.cat([part.present + part.absent for part in group], 1)
    maps = torch.cat([part.maps for part in group], 1) * meant[..., None, None]
    pairs = (maps.sum(1).square() - maps.square().sum(1)).clamp(min=0).mean((1, 2)) / 2
    return (pairs / (meant.sum(1) - 1).clamp(min=1)).mean()

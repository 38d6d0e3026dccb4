"""Terms on concept maps alone: Presence, Absence, Area and Uniqueness. They need no further pass.

Maps I are scores in [0, 1], not normalised over classes. A class counts as present or absent by the image's labels, so
single- and multi-label targets are one case. The form of the terms is ours; LAP (arXiv 2201.11808) has the idea.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from interp_core.knowledge.term import Term, mean_over, mean_where, nll, select_present, terms, top_mean
from interp_core.knowledge.view import Subject, View


@terms.register("presence")
class Presence(Term):
    """High scores of a present class on at least a share of positions.

    -log top_mean(I_k), over present k, in nats.

    Fields:
        share: the part of positions that must score high, in (0, 1].
    """

    weight: float = Field(0.3, ge=0)
    share: float = Field(0.05, gt=0, le=1)

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        return self.mean_of(view, self._subject_loss)

    def _subject_loss(self, subject: Subject) -> Tensor:
        maps, weights = select_present(subject)
        return (nll(top_mean(maps, self.share)) * weights).sum()


@terms.register("absence")
class Absence(Term):
    """Low scores of an absent class everywhere: -log(1 - top_mean(I_k)), over absent k, in nats.

    Fields:
        share: the highest part of positions that is penalised, in (0, 1]; small means everywhere.
    """

    weight: float = Field(0.3, ge=0)
    share: float = Field(0.02, gt=0, le=1)

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        return self.mean_of(view, self._subject_loss)

    def _subject_loss(self, subject: Subject) -> Tensor:
        return mean_over(nll(1 - top_mean(subject.maps, self.share)), subject.absent)


@terms.register("area")
class Area(Term):
    """An active share m = mean(I_k) of a present class in [low, high].

    "hinge": max(0, m - high)^2 + max(0, low - m)^2, squared shares; zero inside the range.
    "barrier": psi(m - high) + psi(low - m) with psi(z) = -log(-z) / t where z <= -1 / t^2, and its tangent beyond, so
    that it is finite everywhere. It has a gradient inside the range too (Kervadec et al., log-barrier extensions,
    arXiv 1904.04205). No unit; 1 / t bounds the distance from the optimum of the hard constraint.

    "linear": max(0, m - high) + max(0, low - m), shares; the gradient does not depend on the distance.

    Fields:
        low: smallest share, in [0, 1].
        high: largest share, in [low, 1].
        form: "hinge", "barrier" or "linear".
        finest: use the finest map of one class drawn for each image instead, as the masking terms do: the refined map
            where the model makes one.
        t: sharpness of the barrier, > 0.
    """

    weight: float = Field(1.0, ge=0)
    low: float = Field(0.02, ge=0, le=1)
    high: float = Field(0.25, ge=0, le=1)
    form: Literal["hinge", "barrier", "linear"] = "hinge"
    finest: bool = False
    t: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _check_bounds(self) -> Area:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} > {self.high}")
        return self

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        if self.finest:
            active = view.finest_maps(self.of).mean((1, 2, 3))
            return mean_where(self._cost(active), view.sample_class(self.of).present)
        return self.mean_of(view, self._subject_loss)

    def _subject_loss(self, subject: Subject) -> Tensor:
        maps, weights = select_present(subject)
        return (self._cost(maps.mean((1, 2))) * weights).sum()

    def _cost(self, active: Tensor) -> Tensor:
        """Compute the cost of active shares m, of the same shape."""
        if self.form == "barrier":
            return barrier(active - self.high, self.t) + barrier(self.low - active, self.t)
        over, under = (active - self.high).clamp(min=0), (self.low - active).clamp(min=0)
        return over + under if self.form == "linear" else over.square() + under.square()


def barrier(z: Tensor, t: float) -> Tensor:
    """Compute the log-barrier extension psi of z in [-1, 1], which should be negative; see `Area`."""
    edge = 1 / t**2
    inside = -torch.log(-z.clamp(max=-edge)) / t
    beyond = t * (z + edge) - math.log(edge) / t
    return torch.where(z <= -edge, inside, beyond)


@terms.register("uniqueness")
class Uniqueness(Term):
    """Each position as evidence for one class only: mean of sum_{j<k} I_j I_k / (m - 1), m columns.

    With two classes it is mean(I_1 I_2). The pairs come from (sum I)^2 - sum I^2, so m classes cost m maps. Where `of`
    names concepts below the head, different concepts of one level are compared. No unit.
    """

    weight: float = Field(0.1, ge=0)

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        levels: dict[str, list[Subject]] = {}
        for subject in self.subjects(view):
            levels.setdefault(subject.level, []).append(subject)
        return torch.stack([_pair_overlap(subjects) for subjects in levels.values()]).mean()


def _pair_overlap(subjects: list[Subject]) -> Tensor:
    selected = torch.cat([subject.present + subject.absent for subject in subjects], 1)
    maps = torch.cat([subject.maps for subject in subjects], 1) * selected[..., None, None]
    pairs = (maps.sum(1).square() - maps.square().sum(1)).clamp(min=0).mean((1, 2)) / 2
    return (pairs / (selected.sum(1) - 1).clamp(min=1)).mean()

"""Knowledge terms: what the designer says a concept may or must be, as losses on concept maps in the forward graph.

Every term needs image-level labels only. Maps I (N, K, h, w) are absolute scores in [0, 1]; labels Y (N, K) are 1
where a class is present, so single- and multi-label targets are one case. Values are per-image means in nats
(Presence, Absence) or squared shares (Area).

The form of the terms is ours; DESIGN names the idea, LAP (arXiv 2201.11808) its origin.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from interp_core.registry import Registry

TINY = 1e-6


def top_mean(maps: Tensor, share: float) -> Tensor:
    """Mean over the highest `share` of positions, at least one: (..., h, w) to (...)."""
    flat = maps.flatten(-2)
    count = max(1, math.ceil(share * flat.shape[-1]))
    return flat.amax(-1) if count == 1 else flat.topk(count, dim=-1).values.mean(-1)


def _surprise(share: Tensor) -> Tensor:
    """-log of values in [0, 1], >= 0, and finite at 0."""
    return -torch.log(TINY + (1 - TINY) * share)


def _present(maps: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (P, h, w) of the present classes and what each counts, so that images count alike; no other is looked at."""
    which = labels.bool()
    shares = labels / labels.sum(1, keepdim=True).clamp(min=1) / len(labels)
    return maps[which], shares[which]


def _mean_over(values: Tensor, which: Tensor) -> Tensor:
    """Mean of values (N, K) where `which` (N, K) is 1, per image, then over images; 0 where it is nowhere 1."""
    return ((values * which).sum(1) / which.sum(1).clamp(min=1)).mean()


class Term(BaseModel):
    """One statement with a weight. Subclasses write `loss`.

    Fields:
        weight: factor in the training loss, >= 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    weight: float = Field(1.0, ge=0)

    def loss(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Unweighted loss, a scalar >= 0, of concept maps (N, K, h, w) and labels (N, K)."""
        raise NotImplementedError(f"{type(self).__name__} must define loss")


terms: Registry[type[Term]] = Registry("knowledge term", "interp_bench.terms")


@terms.register("presence")
class Presence(Term):
    """A present class scores high on at least a share of positions: -log top_mean(I_k), over present k.

    Fields:
        share: the part of positions that must score high, in (0, 1].
    """

    name: ClassVar[str] = "presence"
    share: float = Field(0.05, gt=0, le=1)

    def loss(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Scalar; see the class."""
        present, shares = _present(maps, labels)
        return (_surprise(top_mean(present, self.share)) * shares).sum()


@terms.register("absence")
class Absence(Term):
    """An absent class scores low everywhere: -log(1 - top_mean(I_k)), over absent k.

    Fields:
        share: the highest part of positions that is held down, in (0, 1]; small means everywhere.
    """

    name: ClassVar[str] = "absence"
    share: float = Field(0.02, gt=0, le=1)

    def loss(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Scalar; see the class."""
        return _mean_over(_surprise(1 - top_mean(maps, self.share)), 1 - labels)


@terms.register("area")
class Area(Term):
    """The active share m = mean(I_k) of a present class lies in [low, high]: max(0, m - high)^2 + max(0, low - m)^2.

    Fields:
        low: smallest share, in [0, 1].
        high: largest share, in [low, 1].
    """

    name: ClassVar[str] = "area"
    low: float = Field(0.02, ge=0, le=1)
    high: float = Field(0.25, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Area:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} > {self.high}")
        return self

    def loss(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Scalar; see the class."""
        present, shares = _present(maps, labels)
        active = present.mean((1, 2))
        return (((active - self.high).clamp(min=0).square() + (self.low - active).clamp(min=0).square()) * shares).sum()

"""What a knowledge term is, the registry of terms, and the few functions most of them share.

A term is one sentence of the designer's with a weight; it reads a `View` and gives a scalar. Everything it reads lies
in the forward graph, so one backward pass serves all terms and no second derivative is ever taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from interp_core.knowledge.view import Of, Part, View
from interp_core.registry import ClassRegistry

TINY = 1e-6


class Term(BaseModel):
    """One statement with a weight. Subclasses write `loss`.

    Fields:
        weight: factor in the training loss, >= 0.
        of: what it speaks of: "all" classes, a class by index or name, a concept of a level below the head by name
            ("level:concept" where several levels have it), or several of these.
        shown_by: for concepts below the head, the classes that show them; by default the class of the same name, and
            every image for a concept that no class is named after.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    needs_refiner: ClassVar[bool] = False
    weight: float = Field(1.0, ge=0)
    of: Of = "all"
    shown_by: Of | None = None

    def loss(self, view: View) -> Tensor:
        """Unweighted loss, a scalar >= 0."""
        raise NotImplementedError(f"{type(self).__name__} must define loss")

    @property
    def passes(self) -> int:
        """Passes of the network it makes besides the one all terms share."""
        return 0

    def needs(self) -> tuple[str, ...]:
        """Names of the regions that must be given."""
        return ()

    def parts(self, view: View) -> list[Part]:
        """What the term speaks of, level by level."""
        return view.parts(self.of, self.shown_by)

    def mean_of(self, view: View, loss: Callable[[Part], Tensor]) -> Tensor:
        """Mean over the parts."""
        return torch.stack([loss(part) for part in self.parts(view)]).mean()


terms: ClassRegistry[Term] = ClassRegistry("knowledge term", "interp_bench.terms")


def top_mean(maps: Tensor, share: float) -> Tensor:
    """Mean over the highest `share` of positions, at least one: (..., h, w) to (...)."""
    flat = maps.flatten(-2)
    count = max(1, math.ceil(share * flat.shape[-1]))
    return flat.amax(-1) if count == 1 else flat.topk(count, dim=-1).values.mean(-1)


def surprise(share: Tensor) -> Tensor:
    """-log of values in [0, 1], in nats, >= 0, and finite at 0."""
    return -torch.log(TINY + (1 - TINY) * share)


def present_maps(part: Part) -> tuple[Tensor, Tensor]:
    """Maps (P, h, w) of what is present and what each counts, so that images count alike; no other is looked at."""
    which = part.present.bool()
    shares = part.present / part.present.sum(1, keepdim=True).clamp(min=1) / len(part.present)
    return part.maps[which], shares[which]


def mean_over(values: Tensor, which: Tensor) -> Tensor:
    """Mean of values (N, m) where `which` (N, m) is 1, per image, then over images; 0 where it is nowhere 1."""
    return ((values * which).sum(1) / which.sum(1).clamp(min=1)).mean()


def mean_where(values: Tensor, which: Tensor) -> Tensor:
    """Mean of values (N,) over the images where `which` (N,) is 1; 0 where it is nowhere 1."""
    return (values * which).sum() / which.sum().clamp(min=1)


def needed(group: Sequence[Term]) -> tuple[str, ...]:
    """Names of the regions that a list of terms needs, each once."""
    return tuple(dict.fromkeys(name for term in group for name in term.needs()))

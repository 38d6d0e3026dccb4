"""Base class and registry of knowledge terms, and the functions that most terms share.

A term is one statement of the designer with a weight. It reads a `View` and returns a scalar. Everything it reads lies
in the forward graph, so one backward pass serves all terms and no second derivative is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from interp_core.knowledge.view import Of, Subject, View
from interp_core.registry import ClassRegistry

TINY = 1e-6


class Term(BaseModel):
    """One statement about the maps, with a weight. Subclasses write `loss`.

    Fields:
        weight: factor in the training loss, >= 0.
        of: what it is about: "all" classes, a class by index or name, a concept of a level below the head by name
            ("level:concept" where several levels have it), or a list of these.
        shown_by: for concepts below the head, the classes that show them. By default the class of the same name; a
            concept that no class is named after counts as shown by every image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    needs_refiner: ClassVar[bool] = False
    weight: float = Field(1.0, ge=0)
    of: Of = "all"
    shown_by: Of | None = None

    def loss(self, view: View) -> Tensor:
        """Compute the unweighted loss, a scalar >= 0."""
        raise NotImplementedError(f"{type(self).__name__} must define loss")

    @property
    def passes(self) -> int:
        """Number of forward passes the term makes besides the shared one."""
        return 0

    def needs(self) -> tuple[str, ...]:
        """Return the names of the regions that the term needs."""
        return ()

    def subjects(self, view: View) -> list[Subject]:
        """Resolve `of` and `shown_by` on a view, level by level."""
        return view.subjects(self.of, self.shown_by)

    def mean_of(self, view: View, loss: Callable[[Subject], Tensor]) -> Tensor:
        """Average a loss over the subjects."""
        return torch.stack([loss(subject) for subject in self.subjects(view)]).mean()


terms: ClassRegistry[Term] = ClassRegistry("knowledge term", "interp_bench.terms")


def top_mean(maps: Tensor, share: float) -> Tensor:
    """Average the highest `share` of positions, at least one: (..., h, w) to (...)."""
    flat = maps.flatten(-2)
    count = max(1, math.ceil(share * flat.shape[-1]))
    return flat.amax(-1) if count == 1 else flat.topk(count, dim=-1).values.mean(-1)


def nll(probability: Tensor) -> Tensor:
    """Compute -log of values in [0, 1], in nats; >= 0 and finite at 0."""
    return -torch.log(TINY + (1 - TINY) * probability)


def select_present(subject: Subject) -> tuple[Tensor, Tensor]:
    """Select the maps of present classes, with weights that give every image the same total.

    Returns:
        Maps (P, h, w) and weights (P,). Maps of absent classes are not computed on.
    """
    is_present = subject.present.bool()
    weights = subject.present / subject.present.sum(1, keepdim=True).clamp(min=1) / len(subject.present)
    return subject.maps[is_present], weights[is_present]


def mean_over(values: Tensor, selected: Tensor) -> Tensor:
    """Average values (N, m) where `selected` (N, m) is 1, per image and then over images.

    An image with nothing selected counts as 0.
    """
    return ((values * selected).sum(1) / selected.sum(1).clamp(min=1)).mean()


def mean_where(values: Tensor, selected: Tensor) -> Tensor:
    """Average values (N,) over the images where `selected` (N,) is 1; 0 if there are none."""
    return (values * selected).sum() / selected.sum().clamp(min=1)


def required_regions(terms: Sequence[Term]) -> tuple[str, ...]:
    """Return the names of the regions that a list of terms needs, each once."""
    return tuple(dict.fromkeys(name for term in terms for name in term.needs()))

"""The losses of one step: cross-entropy and knowledge terms, or what a model brings of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.knowledge import Term, seen
from interp_core.lap.model import lap_within
from interp_core.training.modes import bare


class Trainable(Protocol):
    """A model that brings its own losses."""

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted losses of one batch by name, to be added up.

        Args:
            images: (N, C, H, W).
            targets: (N,) class indices, or (N, K) floating point.
            regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images that have none.
        """


def step_losses(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    terms: Sequence[Term],
    *,
    regions: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
    names: Sequence[str] = (),
    quick: Callable[[Tensor], Tensor] | None = None,
    answers: bool = False,
) -> dict[str, Tensor]:
    """Weighted losses of one batch by name, terms of one name added; they are to be added up.

    Args:
        model: a LAP model, a `Trainable`, or a plain network; the latter two do without `terms`.
        images: (N, C, H, W).
        targets: (N,) class indices, or (N, K) floating point.
        terms: knowledge.
        regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images that have none.
        generator: of what terms draw, on the CPU.
        names: of the K classes, where terms name them.
        quick: see `interp_core.knowledge.seen`.
        answers: whether terms speak of what the model answers, instead of the targets.
    """
    own = getattr(bare(model), "losses", None)
    if callable(own):
        return own(images, targets, regions or {})
    if lap_within(model) is None or not terms:
        return {"cross_entropy": decision_loss(model(images), targets)}
    meant = None if answers else targets
    view = seen(model, images, meant, regions=regions, generator=generator, names=names, quick=quick)
    losses = {"cross_entropy": decision_loss(view.logits, targets)}
    for term in terms:
        value = term.weight * term.loss(view)
        losses[term.name] = losses[term.name] + value if term.name in losses else value
    return losses


def decision_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (N, K): over classes for targets (N,), of each class for itself for targets (N, K)."""
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


class Step(nn.Module):
    """`step_losses` as the forward pass of a module, which is what parallel wrappers and mixed precision work on.

    Args:
        model: to be trained.
        terms: knowledge.
        generator: of what terms draw.
        names: of the K classes.
        answers: whether terms speak of what the model answers.
    """

    def __init__(
        self,
        model: nn.Module,
        terms: Sequence[Term],
        generator: torch.Generator,
        names: Sequence[str],
        answers: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.terms, self.generator, self.names = model, tuple(terms), generator, tuple(names)
        self.answers = answers
        self.look_with(None)

    def look_with(self, quick: Callable[[Tensor], Tensor] | None) -> None:
        """What terms look at further images with; see `interp_core.knowledge.seen`."""
        # In a tuple, so that a module here is none of this module's own: it is neither learned nor saved.
        self._quick = (quick,)

    def forward(self, images: Tensor, targets: Tensor, regions: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted losses by name."""
        return step_losses(
            self.model, images, targets, self.terms, regions=regions, generator=self.generator, names=self.names,
            quick=self._quick[0], answers=self.answers,
        )  # fmt: skip

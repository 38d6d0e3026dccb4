"""Losses of one step: cross-entropy and knowledge terms, or the losses a model defines itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.errors import ContractError
from interp_core.knowledge import Term, observe
from interp_core.lap.model import lap_within
from interp_core.lap.wrappers import unwrap
from interp_core.training.targets import ONE_LOGIT


class Trainable(Protocol):
    """Model that defines its own losses."""

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the weighted losses of one batch by name; their sum is the loss.

        Args:
            images: (N, C, H, W).
            targets: (N,) class indices, or (N, K) floating point.
            regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images without a mask.
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
    fast_logits: Callable[[Tensor], Tensor] | None = None,
    answers: bool = False,
    part: int | None = None,
) -> dict[str, Tensor]:
    """Compute the weighted losses of one batch by name; terms of one name are added.

    Args:
        model: a LAP model, a `Trainable`, or a plain network; `terms` apply to LAP models only.
        images: (N, C, H, W).
        targets: (N,) class indices, or (N, K) floating point.
        terms: knowledge terms.
        regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images without a mask.
        generator: generator of the terms' random draws, on the CPU.
        names: names of the K classes, if terms use them.
        fast_logits: see `interp_core.knowledge.observe`.
        part: see `interp_core.knowledge.observe`.
        answers: whether terms use the class the model predicts instead of the target.

    Returns:
        Weighted losses by name; their sum is the loss of the batch.
    """
    model_losses = getattr(unwrap(model), "losses", None)
    if callable(model_losses):
        losses: dict[str, Tensor] = model_losses(images, targets, regions or {})
        return losses
    if lap_within(model) is None or not terms:
        return {"cross_entropy": decision_loss(model(images), targets)}
    view = observe(
        model, images, None if answers else targets,
        regions=regions, generator=generator, names=names, fast_logits=fast_logits, part=part,
    )  # fmt: skip
    losses = {"cross_entropy": decision_loss(view.logits, targets)}
    for term in terms:
        value = term.weight * term.loss(view)
        losses[term.name] = losses[term.name] + value if term.name in losses else value
    return losses


def decision_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross-entropy of logits (N, K): softmax for targets (N,), sigmoids for targets (N, K).

    Raises:
        ContractError: class indices (N,) for a single logit, whose softmax is 1 whatever the image.
    """
    if targets.ndim == 1 and logits.shape[1] == 1:
        raise ContractError(ONE_LOGIT)
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


class StepLosses(nn.Module):
    """Module whose forward pass is `step_losses`, for parallel wrappers and mixed precision.

    Args:
        model: the model to train.
        terms: knowledge terms.
        generator: generator of the terms' random draws, on the CPU.
        names: names of the K classes.
        answers: whether terms use the class the model predicts instead of the target.
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
        self.use_fast_logits(None)
        self.use_parts(None)

    def use_fast_logits(self, fast_logits: Callable[[Tensor], Tensor] | None) -> None:
        """Set the function that terms run further images through; see `interp_core.knowledge.observe`."""
        # In a tuple, so that a module here is not registered as a submodule, which would be trained and saved.
        self._fast_logits = (fast_logits,)

    def use_parts(self, part: int | None) -> None:
        """Set the number of images whose graph terms hold at once; see `interp_core.knowledge.observe`."""
        self._part = part

    def forward(self, images: Tensor, targets: Tensor, regions: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the weighted losses by name."""
        return step_losses(
            self.model, images, targets, self.terms, regions=regions, generator=self.generator, names=self.names,
            fast_logits=self._fast_logits[0], answers=self.answers, part=self._part,
        )  # fmt: skip

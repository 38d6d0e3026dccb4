"""`fit`: train a network, and with it the meaning of its maps.

One recipe serves plain networks and LAP models, so that twins differ in nothing else. For a LAP model the knowledge
terms are added to the cross-entropy; they read maps that lie in the forward graph, so no step needs a second
derivative.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from interp_core.attach import LapModel
from interp_core.errors import ContractError
from interp_core.knowledge import Absence, Area, Presence, Term
from interp_core.recording import recording
from interp_core.trace import evaluating

DEFAULT_TERMS: tuple[Term, ...] = (Presence(weight=0.3), Absence(weight=0.3), Area(weight=1.0))


class Recipe(BaseModel):
    """How to train; AdamW under a one-cycle schedule.

    Fields:
        epochs: passes over the training images; 0 leaves the network as it is.
        batch_size: images per step.
        learning_rate: peak of the schedule.
        weight_decay: decoupled, on weights of two or more dimensions.
        shift: largest random shift in pixels, edges repeated; 0 for none.
        start_a: value given to every `a` that is 0 when training starts, since its gradient vanishes there. Started at
            2, attention settles on few positions before the scorers know the class; from 0.5 it sharpens as they learn.
        channels_last: memory format of images and weights; quicker on most CPUs and GPUs.
        seed: of the order of images and of the shifts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(10, ge=0)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(4e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    shift: int = Field(4, ge=0)
    start_a: float = Field(0.5, gt=0)
    channels_last: bool = True
    seed: int = 0


@dataclass
class Epoch:
    """What one epoch left: mean losses per image, accuracy on the validation images, seconds since the start."""

    epoch: int
    loss: float
    terms: dict[str, float] = field(default_factory=dict)
    val_accuracy: float | None = None
    seconds: float = 0.0


class Source(Protocol):
    """Images that are made when they are asked for, where they do not fit into memory at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __len__(self) -> int: ...

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each of `chosen` (n,) int64 the indices of images there are (m,), and these images (m, C, H, W)."""


def batches_of(images: Tensor | Source, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each of `chosen` (n,) int64 the indices of images there are (m,), and these images (m, C, H, W)."""
    if isinstance(images, Tensor):
        return ((indices, images[indices]) for indices in chosen)
    return images.batches(chosen)


def fit(
    model: nn.Module,
    images: Tensor | Source,
    targets: Tensor,
    *,
    recipe: Recipe | None = None,
    terms: Sequence[Term] = DEFAULT_TERMS,
    validation: tuple[Tensor | Source, Tensor] | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train `model` in place on the device it is on, and leave it in evaluation mode.

    Args:
        model: a LAP model, or a plain network, for which `terms` are not used.
        images: (N, C, H, W) float, normalised; moved to the device batch by batch.
        targets: (N,) class indices, or (N, K) of 0 and 1 in floating point where an image may show several classes.
        recipe: how to train.
        terms: knowledge, see `interp_core.knowledge`.
        validation: images and targets to report accuracy on after each epoch.
        progress: called after each epoch.

    Raises:
        ContractError: images and targets do not fit each other, or none of the images can be read.
    """
    recipe = recipe or Recipe()
    if recipe.epochs == 0:
        model.eval()
        return []
    _check(images, targets, recipe)
    device = next(model.parameters()).device
    lap = lap_within(model)
    if lap is not None:
        start_attention(lap, recipe.start_a)
    _to_format(model, recipe)
    steps = len(images) // recipe.batch_size
    optimizer = torch.optim.AdamW(_groups(model, recipe.weight_decay), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps)
    generator = torch.Generator().manual_seed(recipe.seed)
    history: list[Epoch] = []
    begin = time.perf_counter()
    for number in range(1, recipe.epochs + 1):
        model.train()
        sums: dict[str, Tensor] = {}
        order = torch.randperm(len(images), generator=generator)
        for chosen, some in batches_of(images, order[: steps * recipe.batch_size].split(recipe.batch_size)):
            if len(some) < 2:  # what is left of a batch of unreadable files has no statistics
                continue
            batch = shifted(some, recipe.shift, generator).to(device, non_blocking=True)
            losses = step_losses(model, batch, targets[chosen].to(device), terms)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            schedule.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach()
        if not sums:
            raise ContractError("none of the training images can be read")
        means = {name: float(value) / steps for name, value in sums.items()}
        accuracy = None if validation is None else evaluate(model, *validation)
        history.append(Epoch(number, sum(means.values()), means, accuracy, time.perf_counter() - begin))
        if progress is not None:
            progress(history[-1])
    model.eval()
    return history


def step_losses(model: nn.Module, images: Tensor, targets: Tensor, terms: Sequence[Term]) -> dict[str, Tensor]:
    """Weighted losses of one batch by name, terms of one name added; they are to be added up."""
    if lap_within(model) is None or not terms:
        return {"cross_entropy": decision_loss(model(images), targets)}
    with recording(all_concepts=True) as record:
        logits = model(images)
    assert record.concepts is not None
    labels = targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[1])
    labels = labels.to(logits.dtype)
    losses = {"cross_entropy": decision_loss(logits, targets)}
    for term in terms:
        value = term.weight * term.loss(record.concepts, labels)
        losses[term.name] = losses[term.name] + value if term.name in losses else value
    return losses


def decision_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (N, K): over classes for targets (N,), of each class for itself for targets (N, K)."""
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


def lap_within(model: nn.Module) -> LapModel | None:
    """The LAP model itself, or inside what `torch.compile` or a parallel wrapper made of it; None for other models."""
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return lap_within(inner)
    return model if isinstance(model, LapModel) else None


def start_attention(lap: LapModel, value: float) -> None:
    """Give every `a` that is still 0 a start value, since its gradient vanishes there."""
    with torch.no_grad():
        for block in (*lap.gates, lap.head):
            if block.a == 0:
                block.a.fill_(value)  # type: ignore[union-attr, operator]


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Logits (N, K) on the CPU, in evaluation mode; the training flag is put back."""
    device = next(model.parameters()).device
    with evaluating(model):
        return torch.cat([model(batch.to(device)).cpu() for batch in images.split(batch_size)])


def at_once(shape: Sequence[int]) -> int:
    """How many images (C, H, W) are judged at once: 256, fewer of more than 96 pixels a side."""
    return max(8, min(256, 256 * 96**2 // (shape[-1] * shape[-2])))


def evaluate(model: nn.Module, images: Tensor | Source, targets: Tensor, batch_size: int | None = None) -> float:
    """Share of right answers: images whose highest logit is the target's, or signs of logits for targets (N, K)."""
    chosen = torch.arange(len(images)).split(batch_size or at_once(images.shape))
    found = [
        right(predict(model, part), targets[kept])
        for kept, part in batches_of(images, chosen)
        if len(part)  # files may all be unreadable
    ]
    return torch.cat(found).mean().item() if found else float("nan")


def right(logits: Tensor, targets: Tensor) -> Tensor:
    """How right logits (N, K) are, (N,) float: 0 or 1 for targets (N,), the share of right signs for targets (N, K)."""
    if targets.ndim == 1:
        return (logits.argmax(1) == targets).float()
    return ((logits > 0) == (targets > 0)).float().mean(1)


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `most` pixels along both axes, edges repeated: (N, C, H, W), one gather."""
    if most == 0:
        return images
    n, _, h, w = images.shape
    offsets = torch.randint(-most, most + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(h) + offsets[0]).clamp(0, h - 1)
    columns = (torch.arange(w) + offsets[1]).clamp(0, w - 1)
    index = torch.arange(n)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _groups(model: nn.Module, weight_decay: float) -> list[dict]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _to_format(model: nn.Module, recipe: Recipe) -> None:
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _check(images: Tensor | Source, targets: Tensor, recipe: Recipe) -> None:
    several = targets.ndim == 2 and targets.is_floating_point()
    one = targets.ndim == 1 and not targets.is_floating_point()
    if len(images.shape) != 4 or len(targets) != len(images) or not (one or several):
        raise ContractError(
            f"fit takes images (N, C, H, W) and integer targets (N,), or targets (N, K) in floating point, got "
            f"{tuple(images.shape)} and {targets.dtype} {tuple(targets.shape)}"
        )
    if len(images) < recipe.batch_size:
        raise ContractError(f"{len(images)} training images are fewer than one batch of {recipe.batch_size}")

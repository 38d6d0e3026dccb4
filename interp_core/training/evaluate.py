"""How well a network answers: logits, share of right answers, and losses on images it does not train on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interp_core.backbone.trace import evaluating
from interp_core.knowledge import Term
from interp_core.training.data import Source, batches_of
from interp_core.training.losses import step_losses

LOSS_SEED = 0  # of what terms draw on validation images, the same after each epoch


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
    found = judged(model, images, targets, torch.arange(len(images)).split(batch_size or at_once(images.shape)))
    return found.mean().item() if len(found) else float("nan")


def judged(model: nn.Module, images: Tensor | Source, targets: Tensor, chosen: Sequence[Tensor]) -> Tensor:
    """How right the answers to the chosen images are, (n,), see `right`; those that cannot be read are left out."""
    found = [
        right(predict(model, part), targets[kept])
        for kept, part in batches_of(images, chosen)
        if len(part)  # files may all be unreadable
    ]
    return torch.cat(found) if found else torch.empty(0)


def right(logits: Tensor, targets: Tensor) -> Tensor:
    """How right logits (N, K) are, (N,) float: 0 or 1 for targets (N,), the share of right signs for targets (N, K)."""
    if targets.ndim == 1:
        return (logits.argmax(1) == targets).float()
    return ((logits > 0) == (targets > 0)).float().mean(1)


@torch.no_grad()
def losses_on(
    model: nn.Module,
    images: Tensor | Source,
    targets: Tensor,
    terms: Sequence[Term],
    chosen: Sequence[Tensor],
    regions: Iterable[str] = (),
    names: Sequence[str] = (),
) -> tuple[float, int]:
    """Sum over images of the loss, all terms included, in evaluation mode, and the number of images.

    Terms draw the same each time; no image has any of the `regions` that the losses ask for by name.
    """
    device, total, count = next(model.parameters()).device, 0.0, 0
    generator = torch.Generator().manual_seed(LOSS_SEED)
    with evaluating(model):
        for kept, part in batches_of(images, chosen):
            if len(part) == 0:
                continue
            none = torch.full((len(part), 1, *part.shape[2:]), torch.nan, device=device)
            known: dict[str, Any] = {"regions": dict.fromkeys(regions, none), "generator": generator, "names": names}
            losses = step_losses(model, part.to(device), targets[kept].to(device), terms, **known)
            total += float(torch.stack(list(losses.values())).sum()) * len(part)
            count += len(part)
    return total, count

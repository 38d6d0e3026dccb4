"""Evaluation of a network: logits, accuracy, and losses on validation images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interp_core.backbone.outputs import check_logits_shape
from interp_core.backbone.trace import evaluating
from interp_core.knowledge import Term
from interp_core.training.data import Source, batches_of
from interp_core.training.losses import step_losses

LOSS_SEED = 0  # seed of the terms' random draws on validation images, the same after each epoch


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Compute logits (N, K) in evaluation mode, returned on the CPU; the training flag is restored."""
    device = next(model.parameters()).device
    with evaluating(model):
        batches = (batch.to(device) for batch in torch.split(images, batch_size))
        name = type(model).__name__
        return torch.cat([check_logits_shape(model(batch), name, len(batch)).cpu() for batch in batches])


def eval_batch_size(shape: Sequence[int]) -> int:
    """Return the batch size for evaluating images (C, H, W): 256, less above 96 pixels a side."""
    return max(8, min(256, 256 * 96**2 // (shape[-1] * shape[-2])))


def evaluate(model: nn.Module, images: Tensor | Source, targets: Tensor, batch_size: int | None = None) -> float:
    """Compute the accuracy; see `is_correct`. NaN if no image can be read.

    Args:
        model: network from images to logits.
        images: (N, C, H, W), or a source of them.
        targets: (N,) class indices, or (N, K).
        batch_size: images of one pass; by default `eval_batch_size`.
    """
    batches = torch.split(torch.arange(len(images)), batch_size or eval_batch_size(images.shape))
    scores = correctness(model, images, targets, batches)
    return scores.mean().item() if len(scores) else float("nan")


def correctness(model: nn.Module, images: Tensor | Source, targets: Tensor, batches: Sequence[Tensor]) -> Tensor:
    """Compute `is_correct` for batches of image indices, (n,); images that cannot be read are left out."""
    scores = [
        is_correct(predict(model, batch), targets[indices])
        for indices, batch in batches_of(images, batches)
        if len(batch)  # files may all be unreadable
    ]
    return torch.cat(scores) if scores else torch.empty(0)


def is_correct(logits: Tensor, targets: Tensor) -> Tensor:
    """Return how far logits (N, K) are correct, (N,) float.

    It is 0 or 1 for targets (N,), and the share of classes with the correct sign for targets (N, K). Targets (N,) of a
    single logit are 0 and 1.
    """
    if targets.ndim == 1 and logits.shape[1] == 1:
        targets = targets[:, None]
    if targets.ndim == 1:
        return (logits.argmax(1) == targets).float()
    return ((logits > 0) == (targets > 0)).float().mean(1)


@torch.no_grad()
def sum_losses(
    model: nn.Module,
    images: Tensor | Source,
    targets: Tensor,
    terms: Sequence[Term],
    batches: Sequence[Tensor],
    regions: Iterable[str] = (),
    names: Sequence[str] = (),
) -> tuple[float, int]:
    """Sum the loss over images in evaluation mode, all terms included.

    The random draws of the terms are the same in each call.

    Args:
        model: network to evaluate.
        images: (N, C, H, W), or a source of them.
        targets: (N,) or (N, K).
        terms: knowledge terms of the loss.
        batches: indices of the images of each pass.
        regions: names of the regions that terms use; no validation image has a mask.
        names: names of the K classes.

    Returns:
        The sum, and the number of images that could be read.
    """
    device, total, count = next(model.parameters()).device, 0.0, 0
    generator = torch.Generator().manual_seed(LOSS_SEED)
    with evaluating(model):
        for indices, batch in batches_of(images, batches):
            if len(batch) == 0:
                continue
            no_masks = torch.full((len(batch), 1, *batch.shape[2:]), torch.nan, device=device)
            options: dict[str, Any] = {
                "regions": dict.fromkeys(regions, no_masks), "generator": generator, "names": names
            }  # fmt: skip
            losses = step_losses(model, batch.to(device), targets[indices].to(device), terms, **options)
            total += float(torch.stack(list(losses.values())).sum()) * len(batch)
            count += len(batch)
    return total, count

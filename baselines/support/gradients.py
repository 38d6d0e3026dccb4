"""Gradients of the target's logit, their reduction, and sums over random samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Samples = TypeVar("Samples")


def target_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Select the targets' logits (N,) from logits (N, K)."""
    return logits.gather(1, targets.to(logits.device)[:, None])[:, 0]


def input_gradients(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Compute the gradient (N, C, H, W) of the targets' logits, from one forward and one backward pass."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        return torch.autograd.grad(target_logits(model(leaf), targets).sum(), leaf)[0]


def max_magnitude(gradients: Tensor) -> Tensor:
    """Return the largest magnitude over the channels, (N, 1, H, W), as in Simonyan et al. 2014, section 3.1."""
    return gradients.abs().amax(1, keepdim=True)


def stack_draws(count: int, draw: Callable[[], Tensor]) -> Tensor:
    """Stack `count` draws, made one at a time, so that the values do not depend on the batch size."""
    return torch.stack([draw() for _ in range(count)])


def sum_over_samples(
    images: Tensor,
    targets: Tensor,
    count: int,
    batch_size: int,
    draw: Callable[[range], Samples],
    compute: Callable[[Tensor, Tensor, Samples], Tensor],
) -> Tensor:
    """Sum a value over random samples that are the same for every image.

    Args:
        images: (N, C, H, W).
        targets: (N,).
        count: number of samples.
        batch_size: samples computed at once.
        draw: draws the samples with the given numbers, n of them.
        compute: from one image (C, H, W), its target (n,) and n samples to the sum of their values.

    Returns:
        (N, ...), `compute` summed over all samples.
    """
    total: Tensor | None = None
    for start in range(0, count, batch_size):
        numbers = range(start, min(start + batch_size, count))
        samples = draw(numbers)
        pairs = zip(images, targets, strict=True)
        sums = torch.stack([compute(image, target.expand(len(numbers)), samples) for image, target in pairs])
        total = sums if total is None else total + sums
    assert total is not None, "count is at least 1"
    return total

"""What explainers that differentiate the target's logit share: the input gradient, its reduction, work in parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def of_target(logits: Tensor, targets: Tensor) -> Tensor:
    """The targets' logits (N,) of logits (N, K)."""
    return logits.gather(1, targets.to(logits.device)[:, None])[:, 0]


def input_gradients(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Gradient (N, C, H, W) of the targets' logits by the pixels, from one forward and one backward pass."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        return torch.autograd.grad(of_target(model(leaf), targets).sum(), leaf)[0]


def largest(gradients: Tensor) -> Tensor:
    """The largest magnitude over the channels of each pixel, (N, 1, H, W), as in Simonyan et al. 2014, section 3.1."""
    return gradients.abs().amax(1, keepdim=True)


def in_parts(explain: Callable[[Tensor, Tensor], Tensor], images: Tensor, targets: Tensor, size: int) -> Tensor:
    """`explain` on at most `size` images and targets at once; its maps in one tensor."""
    parts = zip(images.split(size), targets.split(size), strict=True)
    return torch.cat([explain(*part) for part in parts])


def drawn(count: int, draw: Callable[[], Tensor]) -> Tensor:
    """`count` draws stacked; one at a time, so that their number does not change what is drawn."""
    return torch.stack([draw() for _ in range(count)])

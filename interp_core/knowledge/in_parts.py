"""Pass images through a network that does not learn in parts, so that few graphs are held at once.

A term that asks one number of each image, v_i = f(logits(x_i)), needs of the network only the gradient of v_i with
respect to its own image. So a part of the images is passed, its gradient is computed at once, and its graph is freed
before the next part begins:

    forward   v_i and g_i = d v_i / d x_i, part by part
    backward  d loss / d x_i = (d loss / d v_i) g_i

No pass is repeated, and the result is that of all images together within rounding. A loss that needs the logits
themselves has `logits_in_parts`, which repeats the forward pass of a part when its gradient is due (Chen et al., 2016,
arXiv 1604.06174).

Limit: rows must not depend on each other, so norms use their running statistics and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# From images (n, C, H, W) and their rows in the batch to one number an image, (n,).
RowFunction = Callable[[Tensor, slice], Tensor]


def values_in_parts(function: RowFunction, images: Tensor, size: int | None) -> Tensor:
    """Compute one number an image, (N,), in the graph of the images.

    Args:
        function: computes the numbers of some images; nothing but these images gets a gradient from it.
        images: (N, C, H, W).
        size: images whose graph is held at once; None for all.
    """
    if size is None or len(images) <= size:
        return function(images, slice(0, len(images)))
    values: Tensor = _ValuesInParts.apply(images, function, size)
    return values


def logits_in_parts(function: Callable[[Tensor], Tensor], images: Tensor, size: int | None) -> Tensor:
    """Compute logits (N, K) in the graph of the images, whose passes are repeated for the gradient.

    Args:
        function: from images to logits.
        images: (N, C, H, W).
        size: images whose graph is held at once; None for all, whose pass is not repeated.
    """
    if size is None or len(images) <= size:
        return function(images)
    if not (torch.is_grad_enabled() and images.requires_grad):
        return torch.cat([function(piece) for piece in torch.split(images, size)])
    return torch.cat([_repeatable(function, piece) for piece in torch.split(images, size)])


def _repeatable(function: Callable[[Tensor], Tensor], part: Tensor) -> Tensor:
    logits: Tensor = checkpoint(function, part, use_reentrant=False, preserve_rng_state=False)
    return logits


class _ValuesInParts(torch.autograd.Function):
    """Numbers of images with their gradients, which the forward pass computes part by part."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, function: RowFunction, size: int) -> Tensor:
        needs_slopes = ctx.needs_input_grad[0]
        values, slopes = [], []
        for first in range(0, len(images), size):
            rows = slice(first, min(first + size, len(images)))
            value, slope = _value_and_slope(function, images[rows], rows, needs_slopes)
            values.append(value)
            slopes.append(slope)
        if needs_slopes:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return gradients[0][:, None, None, None].to(slopes) * slopes, None, None


def _value_and_slope(function: RowFunction, images: Tensor, rows: slice, needs_slope: bool) -> tuple[Tensor, Tensor]:
    """Return numbers (n,) and their derivatives (n, C, H, W), which are the images where none is needed."""
    if not needs_slope:
        return function(images, rows), images
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        value = function(leaf, rows)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope

"""Trials of a method on a network before it explains anything: a known identity, on an image of noise.

A result holds for one state of the weights: attention that is off, or a last norm that starts at zero, hides what a
trained network shows. So results are cached until the weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from baselines.support.guard import preserve, seed_generators
from interp_core.backbone.copies import tensor_states
from interp_core.backbone.inspect import BackboneInfo, inspect_backbone
from interp_core.backbone.trace import noise_image
from interp_core.errors import BackboneError

T = TypeVar("T")

# (C, H, W) of the images that a network was first given, for networks that do not take the usual size.
_shapes: WeakKeyDictionary[nn.Module, tuple[int, int, int]] = WeakKeyDictionary()


def remember_shape(model: nn.Module, shape: Sequence[int]) -> None:
    """Remember the shape of the images of a network.

    Args:
        model: the network.
        shape: (C, H, W).
    """
    channels, height, width = shape
    _shapes.setdefault(model, (channels, height, width))


def inspect_at_known_size(model: nn.Module) -> BackboneInfo:
    """Inspect a network with the usual image size, or with that of its own images where it refuses the former.

    Raises:
        BackboneError: it is not understood at either.
    """
    info = getattr(model, "info", None)
    if isinstance(info, BackboneInfo):
        return info
    backbone = getattr(model, "backbone", model)
    try:
        return inspect_backbone(backbone)
    except BackboneError:
        if model not in _shapes:
            raise
        return inspect_backbone(backbone, _shapes[model][1:])


def probe_image(model: nn.Module) -> Tensor | None:
    """Make an image (1, C, H, W) of noise that `model` accepts; None if its size is unknown."""
    backbone = getattr(model, "backbone", model)
    try:
        info = inspect_at_known_size(model)
    except BackboneError:
        shape = (getattr(model, "pretrained_cfg", None) or {}).get("input_size") or _shapes.get(model)
        return None if shape is None else noise_image(backbone, shape[0], tuple(shape[1:]))
    return noise_image(backbone, info.in_channels, info.size)


def cache_by_weights(function: Callable[[nn.Module], T]) -> Callable[[nn.Module], T]:
    """Cache a function of a network until its weights change, or the shape of its images becomes known.

    The function runs in evaluation mode, and the network is restored afterwards. Its result must not hold the network.
    """
    results: WeakKeyDictionary[nn.Module, tuple[object, T]] = WeakKeyDictionary()

    def cached(model: nn.Module) -> T:
        state = tensor_states(model), model in _shapes
        if model not in results or results[model][0] != state:
            with preserve(model), seed_generators(0), torch.enable_grad():
                results[model] = state, function(model)
        return results[model][1]

    return cached


def relative_gap(total: Tensor, expected: Tensor) -> float:
    """Compute |total - expected| / |expected| of two numbers; 0 where both are 0."""
    gap, size = abs(float(total) - float(expected)), abs(float(expected))
    return gap / size if size > 0 else (0.0 if gap == 0 else float("inf"))

"""Tries a method on a network before it explains anything: an identity it must keep, on an image of noise.

What is found holds for one state of the weights: attention that is off, or a last norm that starts at zero, hides what
a trained network shows. So it is kept as long as the weights stay, and looked for again when they change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from baselines.support.guard import preserved, seeded
from interp_core.backbone.inspect import BackboneInfo, inspect_backbone
from interp_core.backbone.trace import noise_image
from interp_core.errors import BackboneError

T = TypeVar("T")


def probe_image(model: nn.Module) -> Tensor | None:
    """An image (1, C, H, W) of noise that `model` takes; None where nothing tells its size."""
    backbone = getattr(model, "backbone", model)
    info = getattr(model, "info", None)
    try:
        info = info if isinstance(info, BackboneInfo) else inspect_backbone(backbone)
    except BackboneError:
        size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
        return None if size is None else noise_image(backbone, size[0], tuple(size[1:]))
    return noise_image(backbone, info.in_channels, info.size)


def remembered(find: Callable[[nn.Module], T]) -> Callable[[nn.Module], T]:
    """`find` asked once for each network and state of its weights, in evaluation mode, the network left as it was.

    What `find` returns must not hold the network.
    """
    known: WeakKeyDictionary[nn.Module, tuple[object, T]] = WeakKeyDictionary()

    def ask(model: nn.Module) -> T:
        now = _state(model)
        if model not in known or known[model][0] != now:
            with preserved(model), seeded(0), torch.enable_grad():
                known[model] = now, find(model)
        return known[model][1]

    return ask


def _state(model: nn.Module) -> tuple[tuple[int, int], ...]:
    return tuple((tensor.data_ptr(), tensor._version) for tensor in (*model.parameters(), *model.buffers()))


def relative_gap(total: Tensor, expected: Tensor) -> float:
    """|total - expected| / |expected| of two numbers; 0 where both are 0."""
    gap, size = abs(float(total) - float(expected)), abs(float(expected))
    return gap / size if size > 0 else (0.0 if gap == 0 else float("inf"))

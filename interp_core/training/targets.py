"""Targets in the forms that people have them, matched to the outputs of the network that learns them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from interp_core.backbone.attempt import dtype_of, try_network
from interp_core.backbone.compiled import is_exported, is_quantised
from interp_core.errors import ContractError
from interp_core.lap.model import lap_within
from interp_core.lap.wrappers import unwrap
from interp_core.training.data import Source, batches_of

# A binary network with one logit learns one number an image, and class indices are no such numbers.
ONE_LOGIT = (
    "a network with one logit learns targets (N, K) of 0 and 1 in floating point, K = 1: give targets.float()[:, None]"
)


def to_targets(targets: Any) -> Tensor:
    """Convert targets of any type to class indices (N,) int64, or to floating point (N,) or (N, K).

    Args:
        targets: a tensor, an array or a list; integers of any width, truth values or floating point.

    Raises:
        ContractError: they are no numbers, or integers (N, K) other than 0 and 1.
    """
    try:
        values = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ContractError(f"targets must be numbers, one row for each image, got {type(targets).__name__}") from error
    if values.is_floating_point():
        return values
    if values.ndim < 2:
        return values.long()
    if not bool(((values == 0) | (values == 1)).all()):
        raise ContractError(
            f"targets {tuple(values.shape)} must be 0 or 1, a column for each class; or give (N,) indices"
        )
    return values.float()


def targets_for(model: nn.Module, images: Tensor | Source, targets: Any) -> Tensor:
    """Convert targets to the form that a network learns, and check that its outputs can learn them.

    Args:
        model: a network, or one that defines its losses, whose outputs are not checked.
        images: (N, C, H, W), or a source of them.
        targets: see `to_targets`; (N,) of 0 and 1 in floating point where the network has one logit.

    Returns:
        Class indices (N,) int64, or (N, K) in floating point.

    Raises:
        ContractError: targets and outputs do not match.
        BackboneError: the network fails on the first image, or its output is not logits.
    """
    values = to_targets(targets)
    classes = None if callable(getattr(unwrap(model), "losses", None)) else _count_classes(model, images)
    if classes is None or values.ndim not in (1, 2) or len(values) == 0:
        return values
    if values.is_floating_point() and not bool(((values >= 0) & (values <= 1)).all()):
        raise ContractError(f"targets in floating point must lie in 0..1, got {values.min():g}..{values.max():g}")
    if classes == 1 and values.ndim == 1:
        if not values.is_floating_point():
            raise ContractError(ONE_LOGIT)
        return values[:, None]
    if values.ndim == 2 and values.shape[1] != classes:
        raise ContractError(
            "fit takes images (N, C, H, W) and integer targets (N,), or targets (N, K) of 0 and 1 with a column for "
            f"each of the network's {classes} logits, got {tuple(values.shape)}"
        )
    if (
        values.ndim == 1
        and not values.is_floating_point()
        and not 0 <= int(values.min()) <= int(values.max()) < classes
    ):
        raise ContractError(
            f"targets must lie in 0..{classes - 1}, since the network has {classes} logits, got "
            f"{int(values.min())}..{int(values.max())}"
        )
    return values


def _count_classes(model: nn.Module, images: Tensor | Source) -> int | None:
    """Return the number of logits K, from a pass on the first image; None if that cannot be read."""
    parameter = next(model.parameters(), None)
    if parameter is None or is_exported(model) or is_quantised(model):
        raise ContractError(
            f"{type(unwrap(model)).__name__} cannot be trained, since it is exported, quantised or without parameters: "
            "train the nn.Module that it was made from"
        )
    if parameter.is_inference():
        raise ContractError(
            "the weights were made in torch.inference_mode and cannot learn: create the network outside"
        )
    if len(images) == 0 or len(images.shape) != 4:
        return None
    lap = lap_within(model)
    if lap is not None:
        return lap.num_classes
    batch = next(iter(batches_of(images, [torch.arange(1)])), None)
    if batch is None or len(batch[1]) == 0 or not batch[1].is_floating_point():
        return None
    image = batch[1].to(parameter.device)
    with _without_hooks(model):
        return try_network(model, image if isinstance(images, Tensor) else image.to(dtype_of(model))).classes


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Run a network without its forward hooks, which belong to the training, except for norms of weights."""
    registries = [hooks for module in model.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks)]
    before = [dict(hooks) for hooks in registries]
    for hooks in registries:
        for key in [key for key, hook in hooks.items() if not isinstance(hook, WeightNorm | SpectralNorm)]:
            del hooks[key]
    try:
        yield
    finally:
        for hooks, entries in zip(registries, before, strict=True):
            hooks.clear()
            hooks.update(entries)

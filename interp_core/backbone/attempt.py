"""A first pass through a network, which says in plain words why it fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interp_core.backbone.outputs import check_logits_shape
from interp_core.backbone.shells import Shell, name_of
from interp_core.backbone.trace import evaluating
from interp_core.errors import BackboneError, InterpError, one_line


@dataclass(frozen=True)
class Attempt:
    """Outcome of a pass.

    Attributes:
        classes: K.
        changes_images: whether the network works in place on the images it is called with.
    """

    classes: int
    changes_images: bool


def try_network(model: nn.Module, images: Tensor) -> Attempt:
    """Run a network on images in evaluation mode, without gradients.

    Args:
        model: from images to logits.
        images: (N, C, H, W), which are not changed.

    Raises:
        BackboneError: it fails, or what it returns are not logits (N, K).
    """
    passed = images.detach().clone()
    with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            outputs = model(passed)
        except (InterpError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a network's own code may raise anything
            raise BackboneError(explain_failure(model, images, error)) from error
    logits = check_logits_shape(outputs, name_of(model), len(images))
    return Attempt(logits.shape[1], not torch.equal(passed, images))


def explain_failure(model: nn.Module, images: Tensor, error: Exception) -> str:
    """Say why a network failed on images, and what to do.

    Args:
        model: the network.
        images: (N, C, H, W).
        error: what it raised.
    """
    name, shape = name_of(model), tuple(images.shape)
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    missing = required_inputs(model) if isinstance(error, TypeError) else []
    if missing:
        return missing_inputs(name, missing)
    if weight is not None and weight.device != images.device:
        return (
            f"the images are on {images.device}, the weights of {name} on {weight.device}: move one of them, as in "
            f"images.to('{weight.device}')"
        )
    if weight is not None and weight.dtype != images.dtype:
        return (
            f"the images are of type {images.dtype}, the weights of {name} {weight.dtype}: convert one of them, as in "
            f"images.to({weight.dtype})"
        )
    hint = "; they look like (N, H, W, C): give images.permute(0, 3, 1, 2)" if _looks_channels_last(shape) else ""
    return f"{name} fails on images {shape}: {one_line(error, limit=200)}{hint}"


def _looks_channels_last(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of a network's first floating point parameter; single precision if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def required_inputs(model: nn.Module) -> list[str]:
    """Return the names of the inputs that a network needs besides its images."""
    if isinstance(model, Shell):
        return required_inputs(model.network)
    parameters = list(_signature(model.forward))[1:]
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.default is p.empty and p.kind in named]


def _signature(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # compiled code has none
        return []


def not_a_module(model: object) -> str:
    """Say that something is not a network of torch, and how to make it one."""
    remedy = "wrap it in a module whose forward(images) calls it"
    if callable(getattr(model, "module", None)):  # a program of torch.export
        remedy = "call .module() on it first"
    return f"a network must be a torch.nn.Module, got {type(model).__name__}: {remedy}"


def missing_inputs(name: str, missing: list[str]) -> str:
    """Say that a network needs more than images, and how to fix the other inputs."""
    values = ", ".join(f"{value}=..." for value in missing)
    return (
        f"{name}.forward needs {', '.join(missing)} besides the images: wrap it in a module that registers it and "
        f"whose forward(images) calls it with fixed values ({values})"
    )

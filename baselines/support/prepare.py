"""Bring a network, images and targets of any user into the form that explainers work on.

An explainer gets an eager network in full precision that returns logits (N, K), images on its device, and targets of
int64.

* Wrappers of parallel training and of `torch.compile` are taken off.
* A scripted or exported network gets a shell that takes hooks.
* A network in half precision is explained by a copy in single precision: sums over samples and channels lose too many
  digits otherwise. It is used as it is where it does not run in single precision.
* Weights made in `torch.inference_mode` are copied, since they can have no gradients.
* A network that changes its images in place gets a copy of them in each pass.

Limit: the cost of a network in half precision is that of its copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interp_core.backbone.attempt import Attempt, not_a_module, try_network
from interp_core.backbone.compiled import (
    OutputsOnly,
    is_exported,
    is_quantised,
    is_scripted,
    reason_of_closed_layers,
)
from interp_core.backbone.copies import copy_network, tensor_states
from interp_core.backbone.outputs import Output, select_output
from interp_core.backbone.shells import Shell, name_of
from interp_core.errors import BackboneError, ContractError, InterpError, one_line
from interp_core.lap.input_checks import class_indices
from interp_core.lap.wrappers import take_off_wrappers

HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Task:
    """What an explainer works on.

    Attributes:
        network: from images to logits (N, K), eager, in full precision.
        images: (N, C, H, W), a copy in the network's type.
        targets: (N,) int64 on the device of the images.
        changes_images: whether the network works in place on its images.
    """

    network: nn.Module
    images: Tensor
    targets: Tensor
    changes_images: bool = False


def prepare(
    name: str, model: Any, images: Any, targets: Any, output: Output | None = None, *, needs_network: bool = True
) -> Task:
    """Make the task of an explainer from what its user gave.

    Args:
        name: of the explainer, for messages.
        model: network from images to logits, or to something that holds them.
        images: (N, C, H, W) floating point.
        targets: N class indices of any integer type, or one for all.
        output: which part of the network's output are the logits; None for all of it.
        needs_network: whether the explainer uses the network at all; it is not tried otherwise.

    Raises:
        ContractError: one of them is not what it should be.
    """
    _check_types(name, model, images)
    try:
        if not needs_network:
            return Task(model, images.detach().clone(), class_indices(targets, len(images), None, images.device))
        network = as_classifier(model, output)
        attempt = attempt_on(network, images[:1])
        classes = class_indices(targets, len(images), attempt.classes, images.device)
        return _in_full_precision(Task(network, images.detach().clone(), classes, attempt.changes_images))
    except InterpError as error:
        raise ContractError(f"{name}: {error}") from error


def _check_types(name: str, model: Any, images: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ContractError(f"{name}: {not_a_module(model)}")
    if not isinstance(images, Tensor):
        raise ContractError(
            f"{name}: images must be a tensor (N, C, H, W), got {type(images).__name__}: convert them, as by "
            "torch.as_tensor, and normalise them as for the network"
        )
    if images.ndim != 4 or not images.is_floating_point() or images.numel() == 0:
        hint = ": add the first axis, as in images[None]" if images.ndim == 3 else ""
        hint = hint if images.is_floating_point() else ": convert and normalise them as for the network"
        raise ContractError(
            f"{name}: images must be (N, C, H, W) floating point, got {tuple(images.shape)} {images.dtype}{hint}"
        )


def as_classifier(model: nn.Module, output: Output | None = None) -> nn.Module:
    """Return a network that takes hooks and returns logits, made of the same parts where possible."""
    network = take_off_wrappers(model)
    if any(tensor.is_inference() for tensor in (*network.parameters(), *network.buffers())):
        network = copy_network(network)
    if is_scripted(network) or is_exported(network):
        network = OutputsOnly(network)
    return network if output is None else select_output(network, output)


# Outcome of the first pass of each network, with what it depends on.
_attempts: WeakKeyDictionary[nn.Module, tuple[object, Attempt]] = WeakKeyDictionary()


def attempt_on(network: nn.Module, image: Tensor) -> Attempt:
    """Try a network on one image (1, C, H, W), once for its weights and the form of the image."""
    state = tensor_states(network), image.shape, image.dtype, image.device
    if network not in _attempts or _attempts[network][0] != state:
        _attempts[network] = state, try_network(network, image)
    return _attempts[network][1]


# Copies in single precision, with the state of the weights that they were made of.
_twins: WeakKeyDictionary[nn.Module, tuple[object, nn.Module | None]] = WeakKeyDictionary()


def _in_full_precision(task: Task) -> Task:
    """Replace a network in half precision by a copy in single precision, if that runs."""
    twin = single_precision_twin(task.network, task.images[:1])
    return task if twin is None else Task(twin, task.images.float(), task.targets, task.changes_images)


def single_precision_twin(network: nn.Module, image: Tensor) -> nn.Module | None:
    """Return a copy of a network in half precision that computes in single precision, made once for its weights.

    Args:
        network: from images to logits.
        image: (1, C, H, W), of its type.

    Returns:
        The copy; None where the network is not in half precision, or does not run in another.
    """
    parameter = next((p for p in network.parameters() if p.is_floating_point()), None)
    if parameter is None or parameter.dtype not in HALVES or image.dtype not in HALVES:
        return None
    state = tensor_states(network)
    if network not in _twins or _twins[network][0] != state:
        _twins[network] = state, _copy_in_single_precision(network, image.float())
    return _twins[network][1]


def _copy_in_single_precision(network: nn.Module, image: Tensor) -> nn.Module | None:
    try:
        twin = copy_network(network).float()
        try_network(twin, image)
    except (BackboneError, RuntimeError):  # its own code asks for half precision, or it cannot be copied
        return None
    return twin


class OnCopies(Shell):
    """A network that works on a copy of its images, where it would change them."""

    def forward(self, images: Tensor) -> Any:
        """Return what the network returns for images (N, C, H, W)."""
        return self.network(images.clone())


@contextmanager
def copying_images(network: nn.Module, enabled: bool) -> Iterator[None]:
    """Give the network a copy of its images in each pass, so that it may change them."""

    def copy(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        # captum passes tuples, which it joins to new tensors.
        return (inputs[0].clone(), *inputs[1:]) if isinstance(inputs[0], Tensor) else None

    handle = network.register_forward_pre_hook(copy, prepend=True) if enabled else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Run modules that were compiled in place, by `module.compile()`, as plain ones, which heed hooks."""
    compiled = [(m, m._compiled_call_impl) for m in network.modules() if getattr(m, "_compiled_call_impl", None)]
    for module, _ in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in compiled:
            module._compiled_call_impl = call


@contextmanager
def failures_in_words(name: str, network: nn.Module, images: Tensor) -> Iterator[None]:
    """Turn an error of a library inside the block into one line that says what the network lacks.

    Raises:
        ContractError: instead of the library's error, if the network is the reason.
    """
    try:
        yield
    except (InterpError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = _reason_of_missing_gradient(network, images[:1])
        if reason is None:
            raise
        raise ContractError(f"{name}: {reason} ({one_line(error, limit=120)})") from error


def _reason_of_missing_gradient(network: nn.Module, image: Tensor) -> str | None:
    """Return why no gradient flows from the logits to an image; None if it does."""
    leaf = image.detach().clone().requires_grad_()
    name = name_of(network)
    if is_quantised(network):
        return reason_of_closed_layers(network)
    remedy = "use an explainer of outputs alone (lime, occlusion, rise, shap)"
    try:
        with torch.enable_grad():
            logits: Tensor = network(leaf)
            if logits.requires_grad and torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] is not None:
                return None
    except Exception as error:  # a network's own code may raise anything
        return f"{name} has no gradient with respect to its images: {one_line(error, limit=150)}; {remedy}"
    return (
        f"no gradient flows from the logits of {name} to its images: its forward detaches them, runs under no_grad, or "
        f"computes with integers as a quantised network does; {remedy}"
    )

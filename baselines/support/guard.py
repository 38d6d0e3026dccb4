"""Context managers around an explainer: restore the model and the random generators, and measure the cost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interp_core.backbone.compiled import set_evaluation_mode
from interp_core.backbone.copies import version_of
from interp_core.errors import ContractError


@dataclass
class Cost:
    """Cost of one call.

    Attributes:
        images: number of images explained.
        forwards: number of images passed forward through the model.
        backwards: number of images whose output was differentiated.
        seconds: wall-clock time of the call.
        model_seconds: time in forward passes.
        peak_bytes: peak device memory during the call; None on a CPU, where it is not counted.
    """

    images: int = 0
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    peak_bytes: int | None = None


@contextmanager
def seed_generators(seed: int) -> Iterator[None]:
    """Seed the generators of python, numpy and torch, and restore their states on exit."""
    python, devices = random.getstate(), range(torch.cuda.device_count())
    # lime, shap and quantus draw from numpy's global generator.
    numpy = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _hooks(model: nn.Module) -> list[dict[int, Any]]:
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [getattr(module, name) for module in model.modules() for name in names]


@contextmanager
def preserve(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode; on exit restore hooks, training flags, requires_grad and gradients.

    Raises:
        ContractError: a parameter or buffer was changed inside.
    """
    # A frozen script has no mode.
    training = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    tensors = [*model.parameters(), *model.buffers()]
    versions = [version_of(tensor) for tensor in tensors]
    grads = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    hooks = [(hooks, dict(hooks)) for hooks in _hooks(model)]
    set_evaluation_mode(model)
    try:
        yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, requires_grad, grad in grads:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for current, before in hooks:
            current.clear()
            current.update(before)
    if any(version_of(tensor) != version for tensor, version in zip(tensors, versions, strict=True)):
        raise ContractError("the call changed parameters or buffers of the model; work on a copy instead")


@contextmanager
def count_passes(model: nn.Module, cost: Cost) -> Iterator[Cost]:
    """Add every forward and backward pass of `model` and the time of the block to `cost`."""
    starts: list[float] = []
    cuda = next((p.device for p in model.parameters() if p.is_cuda), None)

    def backward(grad: Tensor) -> None:
        cost.backwards += len(grad)

    def before(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        starts.append(time.perf_counter())

    def after(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        cost.model_seconds += time.perf_counter() - starts.pop()
        cost.forwards += len(output)
        if output.requires_grad:
            output.register_hook(backward)  # type: ignore[no-untyped-call]

    handles = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
    if cuda is not None:
        torch.cuda.reset_peak_memory_stats(cuda)
    begin = time.perf_counter()
    try:
        yield cost
    finally:
        if cuda is not None:
            torch.cuda.synchronize(cuda)
            cost.peak_bytes = torch.cuda.max_memory_allocated(cuda)
        cost.seconds += time.perf_counter() - begin
        for handle in handles:
            handle.remove()

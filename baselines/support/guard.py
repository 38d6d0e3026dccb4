"""Leaves a model and the random generators as they were found, and counts what was asked of the model."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from interp_core.errors import ContractError


@dataclass
class Cost:
    """What one call asked of the model.

    Attributes:
        images: images explained.
        forwards: images that went forward through the model.
        backwards: images whose output was differentiated.
        seconds: wall-clock time of the call.
        model_seconds: part of it spent in forward passes.
        peak_bytes: highest device memory in use during the call; None on a CPU, which keeps no such count.
    """

    images: int = 0
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    peak_bytes: int | None = None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed python's, numpy's and torch's generators inside, and put them back as they were after."""
    python, devices = random.getstate(), range(torch.cuda.device_count())
    # lime, shap and quantus draw from the global generator
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


def _hooks(model: nn.Module) -> list[dict]:
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [getattr(module, name) for module in model.modules() for name in names]


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards hooks, training flags, requires_grad and gradients are as before.

    Raises:
        ContractError: a parameter or buffer was changed inside.
    """
    training = [(module, module.training) for module in model.modules()]
    tensors = [*model.parameters(), *model.buffers()]
    versions = [tensor._version for tensor in tensors]
    grads = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    hooks = [(hooks, dict(hooks)) for hooks in _hooks(model)]
    model.eval()
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
    if any(tensor._version != version for tensor, version in zip(tensors, versions, strict=True)):
        raise ContractError("the call changed parameters or buffers of the model; work on a copy instead")


@contextmanager
def counted(model: nn.Module, cost: Cost) -> Iterator[Cost]:
    """Add to `cost` every forward and backward pass of `model` and the time of the block."""
    started: list[float] = []
    cuda = next((p.device for p in model.parameters() if p.is_cuda), None)

    def backward(grad: Tensor) -> None:
        cost.backwards += len(grad)

    def before(_module: nn.Module, _inputs: tuple) -> None:
        started.append(time.perf_counter())

    def after(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        cost.model_seconds += time.perf_counter() - started.pop()
        cost.forwards += len(output)
        if output.requires_grad:
            output.register_hook(backward)

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

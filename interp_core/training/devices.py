"""Devices, processes and mixed precision of a training, by accelerate.

A single process trains on the device of the model. Started by `accelerate launch` or `torchrun`, each process takes one
device and its share of every batch. Gradients are averaged; batch norms see the share of their process. On a machine
without a GPU the processes share its cores: `accelerate launch --multi_gpu --num_processes 2` or `torchrun`.

Limits: `accelerate launch --cpu` starts a single process unless MPI is there. accelerate keeps one global state in a
process. State that did not exist before `fit` is reset after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from interp_core.errors import ContractError

if TYPE_CHECKING:
    from accelerate import Accelerator

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@contextmanager
def start_accelerator(model: nn.Module, precision: str) -> Iterator[Accelerator]:
    """Yield an accelerator, and move the model to its device if there are several processes.

    Raises:
        ContractError: the device does not support the precision, or the program has set another one.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, GradientState, PartialState

    device = next(model.parameters()).device
    is_single = "LOCAL_RANK" not in os.environ and not PartialState._shared_state
    if precision == "fp16" and device.type == "cpu" and is_single:
        raise ContractError("precision 'fp16' needs a GPU: use 'bf16' or 'fp32' on a CPU")
    had_partial_state, had_state = bool(PartialState._shared_state), bool(AcceleratorState._shared_state)
    try:
        accelerator = Accelerator(
            mixed_precision=PRECISIONS[precision],
            cpu=device.type == "cpu" and (is_single or not has_gpu()),
            device_placement=False,
            # Which parts of LAP learn depends on the terms.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise ContractError(f"precision {precision!r} is not available here: {error}") from error
    if accelerator.num_processes > 1:
        model.to(accelerator.device)
    try:
        yield accelerator
    finally:
        if not had_state:
            AcceleratorState._reset_state(reset_partial_state=not had_partial_state and accelerator.num_processes == 1)
            GradientState._reset_state()


def has_gpu() -> bool:
    """Return whether a launcher's processes have GPUs to themselves; else they share the cores."""
    return torch.cuda.is_available() or torch.xpu.is_available()


def all_agree(accelerator: Accelerator, condition: bool) -> bool:
    """Return whether the condition holds in all processes."""
    if accelerator.num_processes == 1:
        return condition
    count = accelerator.reduce(torch.tensor(float(condition), device=accelerator.device))
    return bool(count == accelerator.num_processes)


def sum_over_processes(accelerator: Accelerator, values: Tensor) -> Tensor:
    """Sum values over processes."""
    return values if accelerator.num_processes == 1 else accelerator.reduce(values.to(accelerator.device))


def broadcast_buffers(accelerator: Accelerator, model: nn.Module) -> None:
    """Copy the running statistics of the first process to all others."""
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast

        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer))

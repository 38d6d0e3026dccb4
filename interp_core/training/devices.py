"""Where training runs: accelerate's view of devices, processes and mixed precision.

One process trains on the device the model is on. Started by `accelerate launch` or `torchrun`, each process takes its
own device and its share of every batch; gradients are averaged, batch norms see their own share.

Limits: accelerate keeps its state once a process, so what was not there before `fit` is taken away after it.
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
def accelerated(model: nn.Module, precision: str) -> Iterator[Accelerator]:
    """An accelerator for the model, which is moved to its device if there are several processes.

    Raises:
        ContractError: the precision is not to be had on this device, or the program has set another.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    device = next(model.parameters()).device
    alone = "LOCAL_RANK" not in os.environ and not PartialState._shared_state
    if precision == "fp16" and device.type == "cpu" and alone:
        raise ContractError("precision 'fp16' needs a GPU: use 'bf16' or 'fp32' on a CPU")
    before = bool(PartialState._shared_state), bool(AcceleratorState._shared_state)
    try:
        accelerator = Accelerator(
            mixed_precision=PRECISIONS[precision], cpu=alone and device.type == "cpu", device_placement=False
        )
    except ValueError as error:
        raise ContractError(f"precision {precision!r} cannot be had here: {error}") from error
    if accelerator.num_processes > 1:
        model.to(accelerator.device)
    try:
        yield accelerator
    finally:
        if not before[1]:
            AcceleratorState._reset_state(reset_partial_state=not before[0] and accelerator.num_processes == 1)
            GradientState._reset_state()


def agreement(accelerator: Accelerator, yes: bool) -> bool:
    """Whether all processes say yes."""
    if accelerator.num_processes == 1:
        return yes
    return bool(accelerator.reduce(torch.tensor(float(yes), device=accelerator.device)) == accelerator.num_processes)


def total(accelerator: Accelerator, values: Tensor) -> Tensor:
    """Sum over processes."""
    return values if accelerator.num_processes == 1 else accelerator.reduce(values.to(accelerator.device))


def same_buffers(accelerator: Accelerator, model: nn.Module) -> None:
    """Give every process the running statistics of the first."""
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast

        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer))

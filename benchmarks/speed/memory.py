"""Measure the peak memory of a piece of work, as torch's allocator counts it.

On a CPU every allocation and release is read from torch's profiler and summed in order of time. On a GPU the caching
allocator keeps the figure itself. Both start from the tensors that exist already (weights, images), so the figure is
all that has to fit.

Known limits: buffers that libraries under torch take for themselves, such as oneDNN's, are not counted, nor is memory
of the process outside tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

from benchmarks.speed.pairs import Work

_EVENT = "[memory]"


def peak_bytes(work: Work, resident: Iterable[Tensor], device: str) -> int:
    """Return the most bytes alive at once while `work` runs.

    Args:
        work: run once.
        resident: tensors alive before and after. Those that share storage count once.
        device: where the work is done, which decides whether the GPU's or the CPU's allocator is read.
    """
    before = storage_bytes(resident)
    return before + (_rise_cuda(work, device) if device.startswith("cuda") else _rise_cpu(work))


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Sum the bytes behind these tensors, counting shared storage once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def state_tensors(model: nn.Module) -> list[Tensor]:
    """List parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


def highest_sum(changes: Iterable[tuple[int, int]]) -> int:
    """Return the highest running sum of (time, bytes) in order of time, at least 0."""
    ordered = sorted(changes, key=lambda change: change[0])
    return max(accumulate((size for _, size in ordered), initial=0))


def _rise_cpu(work: Work) -> int:
    with profile(profile_memory=True) as profiler:
        work()
    results: Any = profiler.kineto_results
    return highest_sum((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == _EVENT)


def _rise_cuda(work: Work, device: str) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before

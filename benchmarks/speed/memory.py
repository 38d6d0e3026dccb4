"""The most memory a piece of work holds at once, as torch's allocator counts it.

On a CPU every allocation and release is taken from torch's profiler and summed up in order of time; on a GPU the
caching allocator keeps the figure itself. Both start from what is there already (weights, images), so that the figure
is all that has to fit.

Limit: buffers that libraries under torch take for themselves, such as oneDNN's, are not seen; neither is what the
process holds besides tensors.
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
    """Most bytes alive at once while `work` runs.

    Args:
        work: run once.
        resident: tensors alive before and after; those that share storage count once.
        device: where the work is done; a GPU's or the CPU's allocator is asked.
    """
    there = stored_bytes(resident)
    return there + (_rise_cuda(work, device) if device.startswith("cuda") else _rise_cpu(work))


def stored_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes behind these tensors, shared storage once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def state(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


def highest(changes: Iterable[tuple[int, int]]) -> int:
    """Highest sum reached by (time, bytes), in order of time; 0 if it never rises."""
    ordered = sorted(changes, key=lambda change: change[0])
    return max(accumulate((size for _, size in ordered), initial=0))


def _rise_cpu(work: Work) -> int:
    with profile(profile_memory=True) as profiler:
        work()
    found: Any = profiler.kineto_results
    return highest((event.start_ns(), event.nbytes()) for event in found.events() if event.name() == _EVENT)


def _rise_cuda(work: Work, device: str) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before

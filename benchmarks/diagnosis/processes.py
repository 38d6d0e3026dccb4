"""Processes that share a diagnosis, started by `accelerate launch` or `torchrun`.

They share what costs most, explaining the images: each writes its part of the shards. Then the first process goes on
with checks and interventions alone, so the results do not depend on the number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from interp_core.training.devices import has_gpu


def _go_on() -> None:
    """Wait for nobody."""


@dataclass(frozen=True)
class Processes:
    """A process among those that share a diagnosis.

    Attributes:
        rank: its number, 0 for the first.
        count: number of processes.
        wait: returns when all have called it.
    """

    rank: int = 0
    count: int = 1
    wait: Callable[[], None] = _go_on

    @property
    def is_first(self) -> bool:
        """Whether this process diagnoses."""
        return self.rank == 0


ALONE = Processes()


def join_processes() -> Processes:
    """Return this process among those that a launcher has started; alone without one."""
    if "LOCAL_RANK" not in os.environ:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=not has_gpu())
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone)

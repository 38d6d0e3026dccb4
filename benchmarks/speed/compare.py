"""Interleaved pairs on top of pytest-benchmark.

pytest-benchmark times one side and calls a `setup` before every round; the other side runs and is timed in there. So
each round is paired with the reference directly before it, and nothing is measured twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from benchmarks.speed.pairs import Case, Reference, Work, nothing, summarise

WARM_UP = 2
QUICK_PAIRS = 3


@dataclass(frozen=True)
class Compare:
    """Times both sides in turn and leaves the row of the table in the benchmark's `extra_info`.

    Attributes:
        benchmark: fixture of pytest-benchmark.
        device: where the work is done.
        quick: few pairs only.
    """

    benchmark: Any
    device: str
    quick: bool

    def __call__(
        self,
        case: Case,
        reference: Work,
        measured: Work,
        *,
        prepare: Work = nothing,
        warm_up: int = WARM_UP,
        repeats: int = 1,
    ) -> None:
        """Compare.

        Args:
            case: labels and number of pairs.
            reference: the side in the denominator.
            measured: the side in the numerator.
            prepare: run before every pair, not timed.
            warm_up: pairs before those that count.
            repeats: see `Reference`.
        """
        if self.quick:
            case = replace(case, pairs=min(case.pairs, QUICK_PAIRS))
        plain = Reference(self._finished(reference), prepare, repeats)
        self.benchmark.group = f"{case.net}, {case.memory_format}"
        self.benchmark.pedantic(self._finished(measured), setup=plain, rounds=case.pairs, warmup_rounds=warm_up)
        if self.benchmark.stats is None:  # --benchmark-disable
            return
        seconds = plain.seconds[warm_up : warm_up + case.pairs]
        row = summarise(case, seconds, self.benchmark.stats.stats.data)
        self.benchmark.extra_info.update(asdict(row), reference_data=seconds)

    def pair_seconds(self, reference: Work, measured: Work) -> float:
        """How long a pair takes, after one that does not count; to decide how many there shall be."""
        pair = Reference(lambda: (self._finished(reference)(), self._finished(measured)()))
        pair()
        pair()
        return pair.seconds[-1]

    def _finished(self, work: Work) -> Work:
        """`work`, and the wait until the device has done it."""
        if not self.device.startswith("cuda"):
            return work

        def run() -> None:
            work()
            torch.cuda.synchronize(self.device)

        return run

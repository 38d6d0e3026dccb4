"""What came of some cells: counts, failures, degenerate maps, seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.run.failures import Problem


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        """Add to one entry."""
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds

    def merge(self, other: Clock) -> None:
        """Add another clock's entries."""
        for what, seconds in other.seconds.items():
            self.add(what, seconds)

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of the block to one entry."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(what, time.perf_counter() - begin)


Pair = tuple[str, str]


@dataclass
class Counters:
    """What came of some cells.

    Attributes:
        computed: cells computed.
        reused: cells found in the store.
        problems: one per failed cell.
        degenerate: (model, explainer) to number of maps that say nothing, and of all maps.
        clock: seconds of explaining, of forward passes inside metrics, and of the rest of the metrics.
        set_aside: files that could not be read.
    """

    computed: int = 0
    reused: int = 0
    problems: list[Problem] = field(default_factory=list)
    degenerate: dict[Pair, tuple[int, int]] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    set_aside: list[str] = field(default_factory=list)

    def count(self, pair: Pair, bad: int, total: int) -> None:
        """Add to the maps of a model and explainer."""
        before = self.degenerate.get(pair, (0, 0))
        self.degenerate[pair] = before[0] + bad, before[1] + total

    def merge(self, other: Counters) -> None:
        """Add what came of other cells."""
        self.computed += other.computed
        self.reused += other.reused
        self.problems += other.problems
        self.set_aside += other.set_aside
        self.clock.merge(other.clock)
        for pair, (bad, total) in other.degenerate.items():
            self.count(pair, bad, total)

    def described(self) -> list[dict[str, object]]:
        """Degenerate maps for run.json, one entry per model and explainer."""
        return [
            {"model": model, "explainer": explainer, "degenerate": bad, "maps": total}
            for (model, explainer), (bad, total) in sorted(self.degenerate.items())
        ]

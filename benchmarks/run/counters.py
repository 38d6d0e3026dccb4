"""Count what happens to cells: computed, reused, failed, and the seconds they took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.store.gallery import Pair
from benchmarks.store.record import DegenerateRecord, Problem


@dataclass
class Clock:
    """Seconds by activity."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, activity: str, seconds: float) -> None:
        """Add seconds to an activity."""
        self.seconds[activity] = self.seconds.get(activity, 0.0) + seconds

    def merge(self, other: Clock) -> None:
        """Add the seconds of another clock."""
        for activity, seconds in other.seconds.items():
            self.add(activity, seconds)

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Add the time of the block to an activity."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(activity, time.perf_counter() - begin)


@dataclass
class Counters:
    """Counts of what happened to some cells.

    Attributes:
        computed: cells computed.
        reused: cells found in the store.
        problems: one for each failed cell.
        degenerate: (model, explainer) to the number of maps that are constant or not finite, and of all maps.
        clock: seconds of explaining, of forward passes inside metrics, and of the rest of the metrics.
        set_aside: messages about files that could not be read.
    """

    computed: int = 0
    reused: int = 0
    problems: list[Problem] = field(default_factory=list)
    degenerate: dict[Pair, tuple[int, int]] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    set_aside: list[str] = field(default_factory=list)

    def count_maps(self, pair: Pair, degenerate: int, total: int) -> None:
        """Add maps of a model and explainer."""
        before = self.degenerate.get(pair, (0, 0))
        self.degenerate[pair] = before[0] + degenerate, before[1] + total

    def merge(self, other: Counters) -> None:
        """Add the counts of other cells."""
        self.computed += other.computed
        self.reused += other.reused
        self.problems += other.problems
        self.set_aside += other.set_aside
        self.clock.merge(other.clock)
        for pair, (degenerate, total) in other.degenerate.items():
            self.count_maps(pair, degenerate, total)

    def degenerate_records(self) -> list[DegenerateRecord]:
        """Return the numbers of degenerate maps for run.json, one entry for each model and explainer."""
        return [
            DegenerateRecord(model=model, explainer=explainer, degenerate=degenerate, maps=total)
            for (model, explainer), (degenerate, total) in sorted(self.degenerate.items())
        ]

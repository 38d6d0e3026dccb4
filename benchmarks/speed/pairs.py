"""Compare two times on a machine that does other work as well.

Idea: the two sides are timed in turn, A B A B ..., so that whatever slows the machine slows both. Each pair gives one
ratio. The result is the median of the ratios with their quartiles.

pytest-benchmark times one side and calls a `setup` before every round. The other side runs and is timed in that setup,
so each round is paired with the reference directly before it and nothing is measured twice.

Known limit: load that comes and goes faster than a pair lasts is not cancelled. The quartiles show it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
import torch

Work = Callable[[], object]
WARM_UP = 2
QUICK_PAIRS = 3


def do_nothing() -> None:
    """Prepare nothing before a pair."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Labels of a comparison and its number of pairs.

    Attributes:
        net: network.
        image_size: side of the images in pixels.
        images: images in the batch.
        memory_format: "channels_last" or "contiguous", of weights and images.
        what: the side that is measured.
        reference: the side it is compared with.
        asked: highest ratio allowed, or None without a limit.
        pairs: number of pairs.
    """

    net: str
    image_size: int
    images: int
    memory_format: str
    what: str
    reference: str
    asked: float | None
    pairs: int


@dataclass(frozen=True, kw_only=True)
class SpeedRow(Case):
    """A case with its measured ratio.

    Attributes:
        ratio: median over the pairs of time / time of the reference.
        q1: lower quartile of the ratios.
        q3: upper quartile of the ratios.
        reference_seconds: median time of the reference.
    """

    ratio: float
    q1: float
    q3: float
    reference_seconds: float


@dataclass
class TimedWork:
    """One side of a comparison that records its times.

    Attributes:
        work: function to time.
        prepare: run before, not timed.
        repeats: calls each time, of which the median counts. More than one where a short call is compared with a very
            long one.
        clock: function that returns seconds.
        seconds: times in order, warm-up included.
    """

    work: Work
    prepare: Work = do_nothing
    repeats: int = 1
    clock: Callable[[], float] = time.perf_counter
    seconds: list[float] = field(default_factory=list)

    def __call__(self) -> None:
        self.prepare()
        self.seconds.append(median(self._time_once() for _ in range(self.repeats)))

    def _time_once(self) -> float:
        begin = self.clock()
        self.work()
        return self.clock() - begin


@dataclass(frozen=True)
class PairTimer:
    """Timer of two sides in turn that leaves its row in the benchmark's `extra_info`.

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
        prepare: Work = do_nothing,
        warm_up: int = WARM_UP,
        repeats: int = 1,
    ) -> None:
        """Time both sides and store the row.

        Args:
            case: labels and number of pairs.
            reference: the side in the denominator.
            measured: the side in the numerator.
            prepare: run before every pair, not timed.
            warm_up: pairs before those that count.
            repeats: see `TimedWork`.
        """
        if self.quick:
            case = replace(case, pairs=min(case.pairs, QUICK_PAIRS))
        denominator = TimedWork(self._synchronised(reference), prepare, repeats)
        self.benchmark.group = f"{case.net}, {case.memory_format}"
        numerator = self._synchronised(measured)
        self.benchmark.pedantic(numerator, setup=denominator, rounds=case.pairs, warmup_rounds=warm_up)
        if self.benchmark.stats is None:  # --benchmark-disable
            return
        seconds = denominator.seconds[warm_up : warm_up + case.pairs]
        row = summarise(case, seconds, self.benchmark.stats.stats.data)
        self.benchmark.extra_info.update(asdict(row), reference_data=seconds)

    def pair_seconds(self, reference: Work, measured: Work) -> float:
        """Return the seconds of a pair, measured after one that does not count."""
        pair = TimedWork(lambda: (self._synchronised(reference)(), self._synchronised(measured)()))
        pair()
        pair()
        return pair.seconds[-1]

    def _synchronised(self, work: Work) -> Work:
        """Return `work` followed by a wait until the device has finished it."""
        if not self.device.startswith("cuda"):
            return work

        def run() -> None:
            work()
            torch.cuda.synchronize(self.device)

        return run


def paired_ratios(reference: Sequence[float], measured: Sequence[float]) -> list[float]:
    """Divide measured[i] by reference[i].

    Raises:
        ValueError: the two differ in length or are empty, or a reference time is not positive.
    """
    if not reference or min(reference) <= 0:
        raise ValueError(f"reference times must be positive, got {list(reference)}")
    return [b / a for a, b in zip(reference, measured, strict=True)]


def pairs_within(budget: float, pair: float, fewest: int, most: int) -> int:
    """Count the pairs of `pair` seconds that fit into `budget` seconds, between `fewest` and `most`."""
    return min(most, max(fewest, int(budget / pair)))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile of at least one value, with linear interpolation."""
    low, middle, high = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75]).tolist()
    return low, middle, high


def summarise(case: Case, reference: Sequence[float], measured: Sequence[float]) -> SpeedRow:
    """Build the row of a case from the seconds of both sides, pair by pair.

    Raises:
        ValueError: see `paired_ratios`.
    """
    q1, ratio, q3 = quartiles(paired_ratios(reference, measured))
    return SpeedRow(**asdict(case), ratio=ratio, q1=q1, q3=q3, reference_seconds=median(reference))

"""How two times are compared on a machine that does other things as well.

Idea: the two sides are timed in turn, A B A B ..., so that whatever slows the machine slows both; each pair gives one
ratio, and the median of the ratios with its quartiles is the result.

Known limit: load that comes and goes faster than a pair lasts is not cancelled; the quartiles show it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

import numpy as np

Work = Callable[[], object]


def nothing() -> None:
    """Does nothing."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is compared with what.

    Attributes:
        net: network.
        image_size: side of the images in pixels.
        images: images in the batch.
        memory_format: "channels_last" or "contiguous", of weights and images.
        what: what is timed.
        reference: what it is compared with.
        asked: highest ratio asked for; None where none is.
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
class Row(Case):
    """A case and what came out.

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
class Reference:
    """The side that is timed here; called before every round of the other.

    Attributes:
        work: what is timed.
        prepare: run before, not timed.
        repeats: calls each time, of which the median counts; more than one where a short call is set against a very
            long one.
        clock: seconds.
        seconds: what was measured, in order, warm-up included.
    """

    work: Work
    prepare: Work = nothing
    repeats: int = 1
    clock: Callable[[], float] = time.perf_counter
    seconds: list[float] = field(default_factory=list)

    def __call__(self) -> None:
        self.prepare()
        self.seconds.append(median(self._once() for _ in range(self.repeats)))

    def _once(self) -> float:
        begin = self.clock()
        self.work()
        return self.clock() - begin


def paired_ratios(reference: Sequence[float], measured: Sequence[float]) -> list[float]:
    """measured[i] / reference[i].

    Raises:
        ValueError: not as many of one as of the other, none, or a reference time that is not positive.
    """
    if not reference or min(reference) <= 0:
        raise ValueError(f"reference times must be positive, got {list(reference)}")
    return [b / a for a, b in zip(reference, measured, strict=True)]


def pairs_within(budget: float, pair: float, fewest: int, most: int) -> int:
    """How many pairs of `pair` seconds fit into `budget` seconds, but `fewest` at least and `most` at most."""
    return min(most, max(fewest, int(budget / pair)))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of at least one value, linear between values."""
    low, middle, high = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75]).tolist()
    return low, middle, high


def summarise(case: Case, reference: Sequence[float], measured: Sequence[float]) -> Row:
    """The row of a case, from the seconds of both sides, pair by pair.

    Raises:
        ValueError: see `paired_ratios`.
    """
    q1, ratio, q3 = quartiles(paired_ratios(reference, measured))
    return Row(**asdict(case), ratio=ratio, q1=q1, q3=q3, reference_seconds=median(reference))

"""How two times are compared on a machine that does other things as well.

Idea: the two sides are timed in turn, A B A B ..., so that whatever slows the machine slows both; each pair gives one
ratio, and the median of the ratios with its quartiles is the result. pytest-benchmark times B; A runs and is timed in
the `setup` it calls before every round, so each B is paired with the A directly before it.

Known limit: load that comes and goes faster than a pair lasts is not cancelled; the quartiles show it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

Work = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        net: network.
        image_size: side of the images in pixels.
        images: images in the batch.
        memory_format: "channels_last" or "contiguous", of weights and images.
        what: what was timed.
        reference: what it was compared with.
        ratio: median over the pairs of time / time of the reference.
        q1: lower quartile of the ratios.
        q3: upper quartile of the ratios.
        asked: highest ratio asked for; None where none is.
        reference_seconds: median time of the reference.
        pairs: number of pairs.
    """

    net: str
    image_size: int
    images: int
    memory_format: str
    what: str
    reference: str
    ratio: float
    q1: float
    q3: float
    asked: float | None
    reference_seconds: float
    pairs: int


@dataclass
class Reference:
    """The side that is timed here; called before every round of the other.

    Attributes:
        work: what is timed.
        repeats: calls each time, of which the median counts; more than one where a single short call is set against a
            very long one.
        clock: seconds.
        seconds: what was measured, in order, warm-up included.
    """

    work: Work
    repeats: int = 1
    clock: Callable[[], float] = time.perf_counter
    seconds: list[float] = field(default_factory=list)

    def __call__(self) -> None:
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


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of at least one value, linear between values."""
    q1, middle, q3 = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75]).tolist()
    return Spread(middle, q1, q3)

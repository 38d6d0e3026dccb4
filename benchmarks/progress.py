"""Who watches a run, and where its seconds went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """What the engine tells whoever watches."""

    def begin(self, what: str, total: int) -> None:
        """A phase of `total` steps starts."""

    def step(self, what: str, steps: int = 1) -> None:
        """So many steps of the phase are done; `what` says how it stands."""


class Silent:
    """Nobody watches."""

    def begin(self, what: str, total: int) -> None:
        """Nothing."""

    def step(self, what: str, steps: int = 1) -> None:
        """Nothing."""


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

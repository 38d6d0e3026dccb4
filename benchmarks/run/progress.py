"""Interface through which a run reports its progress."""

from __future__ import annotations

from typing import Protocol

# Name of the logger that takes lines of progress.
PROGRESS = "interp_bench.progress"


class Progress(Protocol):
    """Receiver of an engine's progress."""

    def begin(self, phase: str, total: int) -> None:
        """Start a phase of `total` steps."""

    def step(self, state: str, steps: int = 1) -> None:
        """Count steps of the phase as done; `state` describes for people how far it is."""


class Silent:
    """Progress that is not shown."""

    def begin(self, phase: str, total: int) -> None:
        """Do nothing."""

    def step(self, state: str, steps: int = 1) -> None:
        """Do nothing."""

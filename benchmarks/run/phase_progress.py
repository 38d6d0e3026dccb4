"""Progress of a command in phases: bars on a terminal, lines in a log."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Self

from rich.console import Console

from benchmarks.run.progress import PROGRESS
from benchmarks.run.progress_bars import ProgressBars

PARTS = 10  # lines of a phase in a log
SECONDS = 60.0  # after which the next step is logged in any case


class PhaseProgress:
    """Show how far each phase is; a `benchmarks.run.progress.Progress`.

    Every phase, and every tenth of its steps, is a line of the logger PROGRESS with the time left. So is the first step
    after a minute without a line.

    Args:
        console: bars are drawn on it if it is a terminal and not quiet.
    """

    def __init__(self, console: Console) -> None:
        self._bars = ProgressBars(console) if console.is_terminal and not console.quiet else None
        self._log = logging.getLogger(PROGRESS)
        self._phase, self._total, self._done = "", 0, 0
        self._begin = self._last_line = time.monotonic()
        self._parts_logged = 0

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, phase: str, total: int) -> None:
        """Start a phase of `total` steps."""
        self._phase, self._total, self._done, self._parts_logged = phase, total, 0, 0
        self._begin = self._last_line = time.monotonic()
        self._log.info("%s: %s", phase, f"{total} steps" if total != 1 else "1 step")
        if self._bars is not None:
            self._bars.begin(phase, total)

    def step(self, state: str, steps: int = 1) -> None:
        """Count steps of the phase as done; `state` describes for people how far it is."""
        self._done += steps
        if self._bars is not None:
            self._bars.step(state, steps)
        now, part = time.monotonic(), PARTS * self._done // max(1, self._total)
        if part > self._parts_logged or now - self._last_line > SECONDS:
            self._parts_logged, self._last_line = part, now
            self._log.info(self._line(state, now))
        else:
            self._log.debug(self._line(state, now))

    def report(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps are done. Steps that begin with the same word belong to one phase."""
        if step.partition(" ")[0] != self._phase.partition(" ")[0] or done < self._done or total != self._total:
            self.begin(step, total)
        if done > self._done:
            self.step(step, done - self._done)

    def _line(self, state: str, now: float) -> str:
        share = self._done / max(1, self._total)
        left = format_seconds((now - self._begin) * (1 / share - 1)) if share else "unknown"
        return f"{state}: {self._done} of {self._total}, {left} left"


def format_seconds(seconds: float) -> str:
    """Return a duration as minutes and seconds, "3:07", or with hours, "1:03:07"."""
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"

"""Progress of `interp-bench diagnose`: bars on a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape

from benchmarks.cli.progress_bars import ProgressBars

LINES = 10  # of a long phase in a log file


class DiagnosisProgress:
    """Show what a diagnosis is doing. Steps that begin with the same word belong to one phase.

    Args:
        console: bars are drawn on a terminal, lines are printed elsewhere.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = ProgressBars(console) if console.is_terminal else None
        self._begin = time.perf_counter()
        self._phase, self._done, self._printed = "", 0, 0

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def report(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of a phase are done."""
        phase = step.partition(" ")[0]
        is_new = phase != self._phase or done < self._done
        if self._bars is not None:
            if is_new:
                self._bars.begin(step, total)
            self._bars.step(step, done - (0 if is_new else self._done))
        else:
            self._print(step, done, total, is_new)
        self._phase, self._done = phase, done

    def _print(self, step: str, done: int, total: int, is_new: bool) -> None:
        tenth = LINES * done // max(1, total)
        if is_new or tenth != self._printed or total <= LINES:
            seconds = time.perf_counter() - self._begin
            line = f"{seconds:8.1f} s  {step}: {done} of {total}"
            self._console.print(escape(line), soft_wrap=True, highlight=False)
        self._printed = tenth

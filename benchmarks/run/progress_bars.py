"""Progress bars on a terminal. A separate module, since importing `rich.progress` takes time."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column


class ProgressBars(Progress):
    """One bar for each phase of a run, with the time left; a `benchmarks.run.progress.Progress`."""

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._phase: TaskID | None = None

    def begin(self, phase: str, total: int) -> None:
        """Complete the bar of the phase before and start one."""
        if self._phase is not None:
            self.update(self._phase, completed=self.tasks[self._phase].total)
        self._phase = self.add_task(phase, total=total)

    def step(self, state: str, steps: int = 1) -> None:
        """Advance the bar of the current phase."""
        assert self._phase is not None
        self.update(self._phase, advance=steps, description=state)

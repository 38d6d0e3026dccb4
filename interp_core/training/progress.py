"""Progress of a training: callbacks as one list, a bar in a terminal, and lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TextIO

from interp_core.training.callbacks import Callback, Epoch

Progress = Callable[[Epoch], None] | Sequence[Callable[[Epoch], None]] | Literal["auto"] | None


class CallbackList(Callback):
    """List of callbacks behind one. Plain functions are called after each epoch only."""

    def __init__(self, progress: Progress) -> None:
        if progress == "auto":
            progress = Auto()
        self.all: list[Any] = [] if progress is None else [progress] if callable(progress) else list(progress)
        self.callbacks = [callback for callback in self.all if isinstance(callback, Callback)]

    def begin(self, total: int, done: int) -> None:
        """See `Callback`."""
        for callback in self.callbacks:
            callback.begin(total, done)

    def estimate(self, seconds: float) -> None:
        """See `Callback`."""
        for callback in self.callbacks:
            callback.estimate(seconds)

    def step(self, done: int) -> None:
        """See `Callback`."""
        for callback in self.callbacks:
            callback.step(done)

    def __call__(self, epoch: Epoch) -> None:
        """See `Callback`."""
        for callback in self.all:
            callback(epoch)

    def close(self) -> None:
        """See `Callback`."""
        for callback in self.callbacks:
            callback.close()


@contextmanager
def open_callbacks(progress: Progress, *, enabled: bool) -> Iterator[CallbackList]:
    """Yield the callbacks as one, and close them on exit; none are called unless `enabled`."""
    callbacks = CallbackList(progress if enabled else None)
    try:
        yield callbacks
    finally:
        callbacks.close()


class Bar(Callback):
    """Progress bar with the time left, on standard error.

    Args:
        console: rich console to draw on instead.
    """

    def __init__(self, console: Any = None) -> None:
        self.console, self.task = console, 0
        self.bar: Any = None

    def begin(self, total: int, done: int) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeLeft())
        self.bar = Progress(*columns, console=self.console or Console(stderr=True))
        self.task = self.bar.add_task("training", total=total, completed=done)
        self.bar.start()

    def estimate(self, seconds: float) -> None:
        """Show the estimate above the bar."""
        self.bar.console.print(f"training will take about {duration(seconds)}", highlight=False)

    def step(self, done: int) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=done)

    def __call__(self, epoch: Epoch) -> None:
        """Show the results of the epoch."""
        accuracy = "" if epoch.val_accuracy is None else f" accuracy {epoch.val_accuracy:.3f}"
        self.bar.update(self.task, description=f"epoch {epoch.epoch} loss {epoch.loss:.3f}{accuracy}")

    def close(self) -> None:
        """Stop updating the bar, and leave it on the screen."""
        if self.bar is not None:
            self.bar.stop()


class Lines(Callback):
    """Lines of text with the time left, for logs: one a minute, and one for each epoch that takes longer.

    Args:
        stream: to write to; standard error by default.
        interval: least number of seconds between two lines.
    """

    def __init__(self, stream: TextIO | None = None, interval: float = 60.0) -> None:
        self.stream, self.interval = stream, interval
        self.total = self.first = self.done = 0
        self.start = self.printed = 0.0

    def begin(self, total: int, done: int) -> None:
        """Start the clock."""
        self.total, self.first, self.done = total, done, done
        self.start = self.printed = time.monotonic()

    def estimate(self, seconds: float) -> None:
        """Print the estimate of a training that takes longer than one interval."""
        if seconds >= self.interval:
            self._print(f"{self.total - self.first} steps, about {duration(seconds)}")

    def step(self, done: int) -> None:
        """Print a line if the last one is old enough."""
        self.done, now = done, time.monotonic()
        if now - self.printed >= self.interval:
            left = (now - self.start) * (self.total - done) / max(1, done - self.first)
            self._print(f"step {done} of {self.total}, {duration(now - self.start)}, about {duration(left)} left")

    def __call__(self, epoch: Epoch) -> None:
        """Print the results of the epoch if anything was printed, or it took longer than an interval."""
        if time.monotonic() - self.start >= self.interval:
            self._print(f"epoch {epoch.epoch}, loss {epoch.loss:.3f}, about {duration(epoch.remaining)} left")

    def _print(self, text: str) -> None:
        self.printed = time.monotonic()
        print(f"training: {text}", file=self.stream or sys.stderr, flush=True)


class Auto(Callback):
    """A bar in a terminal and lines elsewhere; nothing where another bar is shown.

    Args:
        console: rich console to draw on instead.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True)
        self.shown: Callback = Bar(self.console) if self.console.is_terminal else Lines()

    def begin(self, total: int, done: int) -> None:
        """See `Callback`."""
        from rich.errors import LiveError

        try:
            self.shown.begin(total, done)
        except LiveError:  # of the program that called `fit`
            self.shown = Callback()

    def estimate(self, seconds: float) -> None:
        """See `Callback`."""
        self.shown.estimate(seconds)

    def step(self, done: int) -> None:
        """See `Callback`."""
        self.shown.step(done)

    def __call__(self, epoch: Epoch) -> None:
        """See `Callback`."""
        self.shown(epoch)

    def close(self) -> None:
        """See `Callback`."""
        self.shown.close()


def duration(seconds: float) -> str:
    """Return a duration in words.

    >>> [duration(seconds) for seconds in (0.4, 8, 70, 1900, 9000)]
    ['1 s', '8 s', '1 min', '32 min', '2 h 30 min']
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

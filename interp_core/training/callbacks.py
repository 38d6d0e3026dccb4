"""Who watches a training: a progress bar, a CSV file, TensorBoard, or any function that takes an `Epoch`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from interp_core.errors import InterpError


@dataclass
class Epoch:
    """What one epoch left.

    Attributes:
        epoch: its number, from 1.
        loss: mean per image, the sum of `terms`.
        terms: mean losses per image by name.
        val_accuracy: share of right answers on the validation images.
        seconds: since the start, those before a stop included.
        val_loss: on the validation images, all terms included; where early stopping goes by it.
        remaining: seconds left, if all epochs are made at the pace so far.
        learning_rate: of the last step, in the first group of parameters.
    """

    epoch: int
    loss: float
    terms: dict[str, float] = field(default_factory=dict)
    val_accuracy: float | None = None
    seconds: float = 0.0
    val_loss: float | None = None
    remaining: float = 0.0
    learning_rate: float = 0.0

    def row(self) -> dict[str, Any]:
        """All of it in one level, terms as "loss/NAME"."""
        row = asdict(self)
        terms = row.pop("terms")
        return row | {f"loss/{name}": value for name, value in terms.items()}


class Watcher:
    """Told of every step and every epoch; does nothing of its own. Sub-classes write what they want to know."""

    def begin(self, total: int, done: int) -> None:
        """Training starts: `total` steps in all, of which `done` were made before."""

    def step(self, done: int) -> None:
        """So many steps are done."""

    def __call__(self, epoch: Epoch) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """Training ended, or was broken off."""


Progress = Callable[[Epoch], None] | Sequence[Callable[[Epoch], None]] | None


class Watchers(Watcher):
    """Several at once; plain functions hear of epochs alone."""

    def __init__(self, progress: Progress) -> None:
        self.all = [] if progress is None else [progress] if callable(progress) else list(progress)
        self.closely = [one for one in self.all if isinstance(one, Watcher)]

    def begin(self, total: int, done: int) -> None:
        """See `Watcher`."""
        for one in self.closely:
            one.begin(total, done)

    def step(self, done: int) -> None:
        """See `Watcher`."""
        for one in self.closely:
            one.step(done)

    def __call__(self, epoch: Epoch) -> None:
        """See `Watcher`."""
        for one in self.all:
            one(epoch)

    def close(self) -> None:
        """See `Watcher`."""
        for one in self.closely:
            one.close()


@contextmanager
def watched(progress: Progress, *, heard: bool) -> Iterator[Watchers]:
    """The watchers, closed at the end; nobody where this process is not `heard`."""
    watchers = Watchers(progress if heard else None)
    try:
        yield watchers
    finally:
        watchers.close()


class Bar(Watcher):
    """A progress bar with the time left, on standard error.

    Args:
        console: where rich shall draw it instead.
    """

    def __init__(self, console: Any = None) -> None:
        self.console, self.task = console, 0
        self.bar: Any = None

    def begin(self, total: int, done: int) -> None:
        """Show it."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeLeft())
        self.bar = Progress(*columns, console=self.console or Console(stderr=True))
        self.task = self.bar.add_task("training", total=total, completed=done)
        self.bar.start()

    def step(self, done: int) -> None:
        """Move it."""
        self.bar.update(self.task, completed=done)

    def __call__(self, epoch: Epoch) -> None:
        """Say how the epoch ended."""
        accuracy = "" if epoch.val_accuracy is None else f" accuracy {epoch.val_accuracy:.3f}"
        self.bar.update(self.task, description=f"epoch {epoch.epoch} loss {epoch.loss:.3f}{accuracy}")

    def close(self) -> None:
        """Leave it as it is."""
        if self.bar is not None:
            self.bar.stop()


class CsvLog(Watcher):
    """One row for each epoch; rows of epochs that are made again are replaced.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, epoch: Epoch) -> None:
        """Write the row; the file is replaced as a whole, so that it is never half a file."""
        row = {key: "" if value is None else value for key, value in epoch.row().items()}
        rows = [old for old in self._rows() if int(old["epoch"]) < epoch.epoch]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row), restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows([*rows, row])
        part.replace(self.path)

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))


class TensorBoardLog(Watcher):
    """Scalars of each epoch for TensorBoard; those of epochs that are made again are hidden.

    Args:
        folder: of the event files.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.writer: Any = None

    def __call__(self, epoch: Epoch) -> None:
        """Write the scalars."""
        if self.writer is None:
            self.writer = _summary_writer(self.folder, epoch.epoch)
        for name, value in epoch.row().items():
            if name != "epoch" and value is not None:
                self.writer.add_scalar(name, value, epoch.epoch)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def _summary_writer(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InterpError("this needs the package tensorboard: pip install 'interp-bench[tensorboard]'") from error
    return SummaryWriter(folder, purge_step=first)

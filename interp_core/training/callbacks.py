"""Training callbacks: what they hear, a CSV file and TensorBoard. Bars are in `interp_core.training.progress`."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from interp_core.errors import InterpError, StoreError


@dataclass
class Epoch:
    """Results of one epoch.

    Attributes:
        epoch: its number, from 1.
        loss: mean per image, the sum of `terms`.
        terms: mean losses per image by name.
        val_accuracy: share of correct answers on the validation images.
        seconds: time since the start of training, including the time before an interruption.
        val_loss: loss on the validation images, all terms included; None unless early stopping uses it.
        remaining: seconds until the last epoch ends, at the pace so far.
        learning_rate: rate of the last step, in the first group of parameters.
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
        """Return all values in one flat dictionary, terms as "loss/NAME"."""
        row = asdict(self)
        terms = row.pop("terms")
        return row | {f"loss/{name}": value for name, value in terms.items()}


class Callback:
    """Base class of training callbacks. Subclasses override the events they need."""

    def begin(self, total: int, done: int) -> None:
        """Start training: `total` steps in all, `done` of which were made before an interruption."""

    def estimate(self, seconds: float) -> None:
        """Hear, before the first step, about how long training will take; only where that can be measured."""

    def step(self, done: int) -> None:
        """Finish a step; `done` steps are complete."""

    def __call__(self, epoch: Epoch) -> None:
        """Finish an epoch."""

    def close(self) -> None:
        """Finish training, also after an error."""


class CsvLog(Callback):
    """CSV file with one row for each epoch; rows of repeated epochs are replaced.

    Args:
        path: path of the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, epoch: Epoch) -> None:
        """Write the row. The file is replaced as a whole, so that it is always complete."""
        row = {key: "" if value is None else value for key, value in epoch.row().items()}
        earlier = [old for old in self._rows() if int(old["epoch"]) < epoch.epoch]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(self.path.name + ".part")
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row), restval="", extrasaction="ignore")
                writer.writeheader()
                writer.writerows([*earlier, row])
            temporary.replace(self.path)
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path}: {error.strerror or error}; free space and start again"
            ) from error

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


class TensorBoardLog(Callback):
    """TensorBoard scalars of each epoch; those of repeated epochs are hidden.

    Args:
        folder: folder of the event files.
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
        """Close the event file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def _summary_writer(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InterpError("this needs the package tensorboard: pip install 'interp-bench[tensorboard]'") from error
    return SummaryWriter(folder, purge_step=first)

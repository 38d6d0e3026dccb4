"""Who watches hears of every epoch, and of what is left."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest
from helpers.learners import make_tiny, squares
from rich.console import Console

from interp_core import Recipe, fit
from interp_core.errors import InterpError
from interp_core.training import Bar, Callback, CsvLog, Epoch, TensorBoardLog

pytestmark = pytest.mark.slow

RECIPE = Recipe(epochs=3, batch_size=8)


class Notes(Callback):
    def __init__(self) -> None:
        self.heard: list[tuple] = []

    def begin(self, total: int, done: int) -> None:
        self.heard.append(("begin", total, done))

    def step(self, done: int) -> None:
        self.heard.append(("step", done))

    def __call__(self, epoch: Epoch) -> None:
        self.heard.append(("epoch", epoch.epoch))

    def close(self) -> None:
        self.heard.append(("close",))


def test_watchers_hear_of_steps_and_functions_of_epochs() -> None:
    notes, epochs = Notes(), []
    history = fit(make_tiny(lap=False), *squares(16), recipe=RECIPE, progress=[notes, epochs.append])
    expected: list[tuple] = [("begin", 6, 0)]
    for epoch in (1, 2, 3):
        expected += [("step", 2 * epoch - 1), ("step", 2 * epoch), ("epoch", epoch)]
    assert notes.heard == [*expected, ("close",)]
    assert epochs == history


def test_watchers_are_closed_where_training_breaks_off() -> None:
    notes = Notes()

    def stop(_epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make_tiny(lap=False), *squares(16), recipe=RECIPE, progress=(notes, stop))
    assert notes.heard[-1] == ("close",)


def test_a_training_that_goes_on_begins_where_it_stopped(tmp_path: Path) -> None:
    class Stop(Notes):
        def step(self, done: int) -> None:
            if done == 5:
                raise KeyboardInterrupt

    options = {"recipe": RECIPE, "checkpoint": tmp_path / "run.pt"}
    with pytest.raises(KeyboardInterrupt):
        fit(make_tiny(lap=False), *squares(16), progress=Stop(), **options)
    notes = Notes()
    history = fit(make_tiny(lap=False), *squares(16), progress=notes, **options)
    assert notes.heard == [("begin", 6, 4), ("step", 5), ("step", 6), ("epoch", 3), ("close",)]
    assert [epoch.epoch for epoch in history] == [1, 2, 3]


def test_the_time_left_is_what_the_epochs_left_take() -> None:
    history = fit(make_tiny(lap=False), *squares(16), recipe=RECIPE)
    for epoch in history:
        # The pace is taken an instant before the seconds are.
        assert epoch.remaining == pytest.approx(epoch.seconds / epoch.epoch * (3 - epoch.epoch), rel=0.05, abs=2e-3)
    assert history[-1].remaining == 0
    assert history[0].remaining > 0
    assert history[0].learning_rate > history[-1].learning_rate > 0


def test_csv_has_a_row_an_epoch_also_where_epochs_are_made_again(tmp_path: Path) -> None:
    log, path = CsvLog(tmp_path / "logs" / "run.csv"), tmp_path / "logs" / "run.csv"
    images, targets = squares(16)
    history = fit(make_tiny(lap=True), images, targets, recipe=RECIPE, validation=(images, targets), progress=log)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["loss"]) for row in rows] == [epoch.loss for epoch in history]
    assert [float(row["loss/area"]) for row in rows] == [epoch.terms["area"] for epoch in history]
    assert {row["val_loss"] for row in rows} == {""}
    log(Epoch(2, 9.0, {"other": 1.0}))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], float(row["loss"]), row["loss/other"]) for row in rows][1:] == [("2", 9.0, "1.0")]
    assert [found.name for found in path.parent.iterdir()] == ["run.csv"]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = fit(make_tiny(lap=True), *squares(16), recipe=RECIPE, progress=TensorBoardLog(tmp_path / "logs"))
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/area")] == [
        (epoch.epoch, pytest.approx(epoch.terms["area"])) for epoch in history
    ]
    assert "val_accuracy" not in events.Tags()["scalars"]


def test_without_tensorboard_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InterpError, match=r"pip install 'interp-bench\[tensorboard\]'"):
        TensorBoardLog(tmp_path)(Epoch(1, 1.0))


def test_the_bar_shows_epoch_loss_and_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    output, (images, targets) = io.StringIO(), squares(16)
    bar = Bar(Console(file=output, force_terminal=True, width=100))
    history = fit(make_tiny(lap=False), images, targets, recipe=RECIPE, validation=(images, targets), progress=bar)
    assert f"epoch 3 loss {history[-1].loss:.3f} accuracy {history[-1].val_accuracy:.3f}" in output.getvalue()
    assert "6/6" in output.getvalue()
    assert capsys.readouterr().out == ""

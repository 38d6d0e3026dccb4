"""A training that was stopped anywhere and started again ends with the very same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.learners import make_smooth, make_tiny, same_weights, squares
from helpers.shared import ROOT

from interp_core import LapModel, Recipe, fit
from interp_core.errors import StoreError
from interp_core.knowledge import terms
from interp_core.training import DEFAULT_TERMS, Callback, Epoch

pytestmark = pytest.mark.slow

RECIPE = Recipe(epochs=3, batch_size=8, shift=2, flip=True, clip=1.0, patience=3)
STEPS = 3 * 3


class Killed(Exception):
    pass


class Kill(Callback):
    """Breaks the training off after so many steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def step(self, done: int) -> None:
        if done == self.after:
            raise Killed


def training(
    path: Path | None, *, kill: int | None = None, recipe: Recipe = RECIPE, **more: Any
) -> tuple[LapModel, list]:
    """One training of 9 steps, of a network with dropout, from the same start each time."""
    model = make_smooth(dropout=0.3)
    torch.manual_seed(7)
    images, targets = squares(24)
    watch = [] if kill is None else [Kill(kill)]
    group = [*DEFAULT_TERMS, *([terms["sufficiency"](weight=0.5)] if "sufficiency" in terms else [])]
    history = fit(
        model, images, targets, recipe=recipe, terms=group, validation=squares(12), progress=watch,
        checkpoint=path, save_every=2, **more,
    )  # fmt: skip
    return model, history


def losses(history: list[Epoch]) -> list[tuple]:
    return [(epoch.epoch, epoch.terms, epoch.val_accuracy, epoch.val_loss, epoch.learning_rate) for epoch in history]


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[LapModel, list[Epoch]]:
    """Never stopped, and without a checkpoint."""
    return training(None)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_stopped_after_any_step_it_ends_with_the_same_bits(step: int, tmp_path: Path, uninterrupted: tuple) -> None:
    path = tmp_path / "new" / "run.pt"
    with pytest.raises(Killed):
        training(path, kill=step)
    model, history = training(path)
    assert same_weights(model, uninterrupted[0])
    assert losses(history) == losses(uninterrupted[1])
    assert [epoch.seconds for epoch in history] == sorted(epoch.seconds for epoch in history)


def test_stopped_again_and_again(tmp_path: Path, uninterrupted: tuple) -> None:
    for step in (3, 5, 8):
        with pytest.raises(Killed):
            training(tmp_path / "run.pt", kill=step)
    assert same_weights(training(tmp_path / "run.pt")[0], uninterrupted[0])


@pytest.mark.parametrize("recipe", [RECIPE.model_copy(update={"precision": "bf16", "accumulate": 2})])
def test_in_mixed_precision_and_in_parts(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        training(tmp_path / "run.pt", kill=5, recipe=recipe)
    assert same_weights(training(tmp_path / "run.pt", recipe=recipe)[0], training(None, recipe=recipe)[0])


def test_batch_norms_and_a_frozen_backbone_go_on_too(tmp_path: Path) -> None:
    for mode in ("scratch", "finetune", "frozen"):
        recipe, path = Recipe(mode=mode, epochs=2, batch_size=8), tmp_path / f"{mode}.pt"  # type: ignore[arg-type]
        first, second = make_tiny(lap=True), make_tiny(lap=True)
        fit(first, *squares(24), recipe=recipe)
        with pytest.raises(Killed):
            fit(make_tiny(lap=True), *squares(24), recipe=recipe, progress=Kill(4), checkpoint=path, save_every=1)
        fit(second, *squares(24), recipe=recipe, checkpoint=path)
        assert same_weights(first, second)


def test_one_that_ended_is_not_made_again(tmp_path: Path, uninterrupted: tuple) -> None:
    training(tmp_path / "run.pt")
    model, history = training(tmp_path / "run.pt", kill=1)
    assert same_weights(model, uninterrupted[0])
    assert losses(history) == losses(uninterrupted[1])
    assert not (tmp_path / "run.pt.part").exists()


def test_a_half_written_file_is_never_read(tmp_path: Path, uninterrupted: tuple) -> None:
    with pytest.raises(Killed):
        training(tmp_path / "run.pt", kill=5)
    (tmp_path / "run.pt.part").write_bytes(b"half")
    assert same_weights(training(tmp_path / "run.pt")[0], uninterrupted[0])


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    training(tmp_path / "run.pt")
    with pytest.raises(StoreError, match="another recipe: give another path"):
        training(tmp_path / "run.pt", recipe=RECIPE.model_copy(update={"seed": 1}))
    with pytest.raises(StoreError, match="another regions"):
        training(tmp_path / "run.pt", regions={"tag": (torch.tensor([0]), torch.zeros(1, 1, 16, 16))})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"half a file", None])
def test_a_damaged_checkpoint_is_said_to_be(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    if content is None:
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"run\.pt.*delete it to start anew"):
        training(path)


def test_a_folder_that_cannot_be_written_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        training(tmp_path / "file" / "run.pt")


CHILD = """
import os, signal, sys
sys.path[:0] = {folders!r}
import importlib.util
spec = importlib.util.spec_from_file_location('t', {here!r})
t = importlib.util.module_from_spec(spec)
spec.loader.exec_module(t)
class Now(t.Callback):
    def step(self, done):
        if done == {step}: os.kill(os.getpid(), signal.SIGKILL)
t.Kill = lambda after: Now()
t.training(t.Path({path!r}), kill=1)
"""


def test_a_process_that_is_killed_goes_on(tmp_path: Path, uninterrupted: tuple) -> None:
    code = CHILD.format(here=__file__, folders=[str(ROOT), str(ROOT / "tests")], path=str(tmp_path / "run.pt"), step=7)
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.run([sys.executable, "-c", code], env=os.environ | threads, check=False)
    assert process.returncode == -signal.SIGKILL
    assert same_weights(training(tmp_path / "run.pt")[0], uninterrupted[0])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("state", None), ("about", 3), ("about", None), ("counts", {}), ("counts", {"epoch": 1, "done": 99, "made": 0}),
        ("order", torch.zeros(3)), ("schedule", {"total_steps": "x"}), ("history", [{}]), ("processes", []),
        ("model", {}), ("seconds", None), ("optimizer", {}),
    ],
)  # fmt: skip
def test_a_checkpoint_with_an_odd_part_is_refused_and_stays(part: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(Killed):
        training(path, kill=5)
    content = torch.load(path, weights_only=True)
    (content if part in content else content["state"])[part] = value
    torch.save(content, path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"a\.pt .*delete it to start anew"):
        training(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("moment", [None, torch.tensor(1.0)])
def test_moments_of_other_weights_are_refused(moment: torch.Tensor | None, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(Killed):
        training(path, kill=5)
    content = torch.load(path, weights_only=True)
    moments = content["state"]["optimizer"]["state"][0]
    if moment is None:
        del moments["exp_avg"]
    else:
        moments["exp_avg_sq"] = moment
    torch.save(content, path)
    with pytest.raises(StoreError, match=r"a\.pt .*delete it to start anew"):
        training(path)

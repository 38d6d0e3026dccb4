"""A full disk, a folder that cannot be written and two processes in one folder cost a line, not the results."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest
import timm
import torch
from helpers.command import exit_code
from helpers.kills import run, start
from helpers.pictures import save_pictures

import interp_core
from interp_core.errors import StoreError
from interp_core.training.checkpoint import Checkpoint

pytestmark = pytest.mark.slow
WHOLE_RUNS = pytest.mark.skipif("INTERP_BENCH_KILLS" not in os.environ, reason="whole runs: use tox -e kills")


def small_files(most: int) -> None:
    """Let this process write no file of more than some bytes, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def full_disk():  # type: ignore[no-untyped-def]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    small_files(20_000)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("name", ["checkpoint", "save", "save_pretrained"])
def test_a_full_disk_leaves_the_file_before(name: str, tmp_path: Path) -> None:
    lap = interp_core.create("test_resnet", num_classes=3).eval()
    paths = {
        "checkpoint": tmp_path / "a.pt",
        "save": tmp_path / "a.safetensors",
        "save_pretrained": tmp_path / "a" / "model.safetensors",
    }
    paths[name].parent.mkdir(exist_ok=True)
    paths[name].write_text("before")
    write = {
        "checkpoint": lambda: Checkpoint(tmp_path / "a.pt", {}).write({"weights": torch.zeros(100_000)}),
        "save": lambda: interp_core.save(lap, tmp_path / "a"),
        "save_pretrained": lambda: lap.save_pretrained(tmp_path / "a"),
    }[name]
    with pytest.raises(StoreError) as caught:
        write()
    assert "\n" not in str(caught.value)
    assert str(paths[name]) in str(caught.value)
    assert [path.name for path in paths[name].parent.iterdir()] == [paths[name].name]
    assert paths[name].read_text() == "before"


def fit_words(folder: Path) -> list[str]:
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), folder / "w.pt")
    save_pictures(folder / "photographs", 12)
    return [
        "fit", "--backbone", "test_resnet", "--weights", str(folder / "w.pt"), "--image-size", "64", "--data",
        str(folder / "photographs"), "--epochs", "2", "--batch-size", "4", "--workers", "0",
        "--output", str(folder / "lap"),
    ]  # fmt: skip


def test_a_fit_on_a_full_disk_is_one_line_and_goes_on_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = fit_words(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    small_files(20_000)
    try:
        assert exit_code(*words) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "fit.checkpoint" in line
    assert exit_code(*words) == 0
    assert json.loads((tmp_path / "lap" / "fit.json").read_text())["report"]["answers_kept"] == 1


@pytest.mark.parametrize("command", ["fit", "explain"])
def test_a_folder_that_cannot_be_written_is_told(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = fit_words(tmp_path)
    (tmp_path / "file").write_text("no folder")
    words[-1] = str(tmp_path / "file" / "lap")
    if command == "explain":
        words = ["explain", *words[1:7], str(tmp_path / "photographs"), "--output", words[-1]]
    assert exit_code(*words) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert str(tmp_path / "file") in line


RUN = """
name: twice
dataset: {name: digits-in-scenes, image_size: 32, train: 64, val: 16, test: 24, distractors: 0}
models: [{name: plain, backbone: test_resnet}]
recipe: {epochs: 2, batch_size: 16, shift: 2}
explainers: [grad_cam, random]
metrics: [relevance_mass_accuracy]
images: 4
shard: 2
gallery: 1
seeds: [0]
"""


@WHOLE_RUNS
def test_two_runs_in_one_folder_end_with_the_same_scores(tmp_path: Path) -> None:
    from benchmarks.store.run_folder import read_run

    (tmp_path / "run.yaml").write_text(RUN)
    words = ["run", "--config", str(tmp_path / "run.yaml"), "--output"]
    run([*words, str(tmp_path / "alone")], tmp_path / "alone.log")
    both = [start([*words, str(tmp_path / "shared")], tmp_path / f"{number}.log") for number in range(2)]
    for number, process in enumerate(both):
        process.join(300)
        assert process.exitcode == 0, (tmp_path / f"{number}.log").read_text()[-2000:]
    tables = []
    for name in ("alone", "shared"):
        [folder] = {path.parent for path in (tmp_path / name).rglob("run.json")}
        scores = read_run(str(folder)).scores
        columns = [column for column in scores.columns if column != "value"]
        tables.append(scores[scores["metric"] == "relevance_mass_accuracy"].sort_values(columns).reset_index(drop=True))
    assert len(tables[0])
    assert tables[0].equals(tables[1])


@WHOLE_RUNS
def test_a_store_that_was_cut_short_is_computed_again(tmp_path: Path) -> None:
    from benchmarks.store.run_folder import read_run

    (tmp_path / "run.yaml").write_text(RUN)
    words = ["run", "--config", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "out")]
    assert exit_code(*words) == 0
    [folder] = {path.parent for path in (tmp_path / "out").rglob("run.json")}
    before = read_run(str(folder)).scores
    for pattern in ("cells/*.parquet", "maps/*.npz", "models/*.safetensors", "models/*.json", "run.json", "*.parquet"):
        for path in folder.glob(pattern):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert exit_code(*words) == 0
    after = read_run(str(folder)).scores
    columns = [column for column in before.columns if column != "value"]
    pairs = [table[table["metric"] == "relevance_mass_accuracy"].sort_values(columns) for table in (before, after)]
    assert len(pairs[0])
    assert pairs[0].reset_index(drop=True).equals(pairs[1].reset_index(drop=True))

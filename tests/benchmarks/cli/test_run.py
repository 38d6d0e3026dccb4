from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.command import exit_code

from baselines import explainers
from benchmarks import report
from benchmarks.cli.run import _print_times
from benchmarks.report import RunData
from benchmarks.store.atomic import write_atomically
from benchmarks.store.locations import open_location

pytestmark = pytest.mark.slow

TWO = [
    {"name": "plain", "backbone": "test_resnet", "kwargs": {"output_stride": 8}},
    {"name": "lap", "backbone": "test_resnet", "kwargs": {"output_stride": 8}, "lap": True},
]


BAD: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"explainers": ["gradcam"]}, [], ["gradcam", "grad_cam"]),
    ({"metrics": ["aux"]}, [], ["aux", "auc"]),
    ({"images": -1}, [], ["images", "-1"]),
    ({}, ["--images", "0"], ["images", "0"]),
    ({}, ["--set", "recipe.epoch=3"], ["recipe.epoch"]),
    ({}, ["--set", "nonsense"], ["nonsense"]),
    ({}, ["--set", "metrics.aux.steps=3"], ["aux", "auc"]),
    ({}, ["--batch-size", "much"], ["batch_size", "much"]),
    ({}, ["--grid", "0"], ["grids", "0"]),
    ({}, ["--output", "abacus://beads"], ["abacus"]),
    ({}, ["--device", "abacus"], ["abacus"]),
    ({}, ["--name", "a b"], ["name", "a b"]),
    ({}, ["--plugin", "nowhere.py"], ["nowhere.py"]),
    ({"models": [{"name": "v", "backbone": "test_vit", "lap": True}]}, [], ["not convolutional", "resnet18"]),
    ({"models": [{"name": "v", "backbone": "test_vitt"}]}, [], ["test_vitt", "test_vit"]),
    ({"recipe": {"epochs": 1, "batch_size": 1000}}, [], ["1000", "64"]),
]


@pytest.mark.parametrize(("changes", "options", "words"), BAD, ids=[words[0] for *_, words in BAD])
def test_bad_input_is_told_in_one_line_with_exit_code_2(
    tiny_file: Callable[..., Path],
    changes: dict[str, Any],
    options: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code("run", "--config", str(tiny_file(**changes)), *options) == 2
    *progress, error = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("error: ")
    assert not any("error" in line for line in progress)
    assert all(word in error for word in words)


def test_an_output_that_cannot_be_written(
    tiny_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert exit_code("run", "--config", str(tiny_file()), "--output", str(tmp_path / "file")) == 2
    assert "--output" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"


def test_run_and_report_write_the_same_page(
    tiny_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("run", "--config", str(tiny_file(models=TWO[:1], explainers=["random"], metrics=["auc"]))) == 0
    folder = tmp_path / "runs" / "tiny"
    files = {
        path.relative_to(folder): path.read_bytes()
        for part in ("tables", "figures")
        for path in (folder / part).iterdir()
    }
    page = (folder / "report.html").read_bytes()
    assert "report.html" in capsys.readouterr().out
    (folder / "report.html").unlink()
    (folder / "tables" / "summary.csv").unlink()
    assert exit_code("report", str(folder)) == 0
    assert (folder / "report.html").read_bytes() == page
    assert all((folder / path).read_bytes() == content for path, content in files.items())


def test_problems_are_printed(
    no_page: None, tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explainers["random"], "refusal", lambda self, model: "it [does] not like it")
    assert (
        exit_code("run", "--config", str(tiny_file(models=TWO[:1], explainers=["random", "grad_cam"], metrics=["auc"])))
        == 0
    )
    assert "plain, random: left out: it [does] not like it" in capsys.readouterr().err


def test_options_change_the_run_and_are_told(
    no_page: None, tiny_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--limit", "2", "--seed", "3", "--batch-size", "1", "--smoothing", "2", "--grid", "4", "--sharpen", "2",
        "--keep-maps", "none", "--metric-engine", "device", "--set", "metrics.pixel_flipping.steps=8",
    ]  # fmt: skip
    assert exit_code("run", "--config", str(tiny_file(models=TWO[:1], explainers=["random"])), *words) == 0
    meta = json.loads((tmp_path / "runs" / "tiny" / "run.json").read_text())
    assert meta["overrides"] == {
        "images": 2, "seeds": [3], "batch_size": 1, "smoothing": [2.0], "grids": [4], "sharpening": [2.0],
        "keep_maps": "none", "metric_engine": "device", "metrics.pixel_flipping.steps": 8,
    }  # fmt: skip
    assert meta["config"]["metrics"][1] == {"name": "pixel_flipping", "steps": 8}
    assert [entry["name"] for entry in meta["ablations"]] == ["smooth2", "grid4", "sharp2"]
    assert meta["dataset"]["evaluated"] == 2
    assert meta["seeds"] == [3]
    assert "nothing" not in capsys.readouterr().err


MOODY = """
from pathlib import Path

import torch
from baselines import Explainer, explainers


@explainers.register("moody")
class Moody(Explainer):
    def explain(self, model, images, targets):
        if not Path("{mood}").exists():
            raise RuntimeError("no luck")
        return torch.full_like(images, torch.nan)
"""


def test_failed_cells_exit_with_1_and_are_retried(
    no_page: None, tiny_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin, mood = tmp_path / "moody_plugin.py", tmp_path / "mood"
    plugin.write_text(MOODY.format(mood=mood))
    file = tiny_file(models=TWO[:1], explainers=["random"], metrics=["auc"], plugins=[str(plugin)])
    try:
        assert exit_code("run", "--config", str(file)) == 1
        error = capsys.readouterr().err
        assert "plain, moody: RuntimeError: no luck (2 cells)" in error
        assert "--retry-failed" in error
        mood.touch()
        assert exit_code("run", "--config", str(file)) == 1
        assert exit_code("run", "--config", str(file), "--retry-failed") == 0
        captured = capsys.readouterr()
        assert "plain, moody: 3 of 3 maps are constant or not finite" in captured.err
        assert "4 cells computed, 4 found in the store" in captured.out
    finally:
        del explainers._entries["moody"]


def test_the_parts_of_the_time_are_printed_longest_first(capsys: pytest.CaptureFixture[str]) -> None:
    times = {"total": 100.0, "train": 61.0, "explain": 30.0, "harness": 9.0}
    _print_times(times, {"libraries": 8.0, "page": 12.0})
    line = " ".join(capsys.readouterr().out.split())
    assert line.startswith("Time 2:00: ")
    assert re.findall(r"\d:\d\d(?!:)", line) == ["1:01", "0:30", "0:12", "0:09", "0:08"]


def test_a_run_and_its_page_may_lie_behind_a_url(
    tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def quick(data: RunData, folder: Path) -> list[Path]:
        return [
            write_atomically(folder / name, f"<!-- {data.record.name} -->") for name in ("tables/a.csv", "report.html")
        ]

    monkeypatch.setattr(report, "write_report", quick)
    file = str(tiny_file(models=TWO[:1], explainers=["random"], metrics=["auc"]))
    assert exit_code("run", "--config", file, "--output", "memory://shelf") == 0
    for name in ("tables/a.csv", "report.html"):
        assert open_location(f"memory://shelf/tiny/{name}").read_text() == "<!-- tiny -->"
    assert exit_code("report", "memory://shelf/tiny") == 0
    assert "memory://shelf/tiny/report.html" in capsys.readouterr().out

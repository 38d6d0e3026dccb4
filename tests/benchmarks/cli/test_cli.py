from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from baselines import explainers
from benchmarks import cli, report
from benchmarks.cli import run, runs
from benchmarks.config.run import RunConfig
from benchmarks.metrics import metrics
from benchmarks.report import RunData
from benchmarks.run.engine import Engine, Outcome
from benchmarks.store.atomic import write_atomically
from benchmarks.store.locations import open_location
from interp_core.datasets import datasets


def exit_code(*words: str) -> int:
    """Run the command and return its exit code."""
    try:
        cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write no page, which takes longer than they do."""
    monkeypatch.setattr(run, "write_page", lambda folder: None)


def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no line of a table is cut."""
    monkeypatch.setattr(cli.console, "width", 400)


@pytest.mark.parametrize(
    ("things", "names"),
    [
        ("explainers", list(explainers)),
        ("metrics", [score.name for metric in metrics.values() for score in metric.scores]),
        ("datasets", list(datasets)),
        ("presets", ["digits", "paper", "quick", "smoke"]),
    ],
)
def test_list_names_everything(
    things: str, names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide(monkeypatch)
    assert exit_code("list", things) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names)


def test_list_models_can_be_narrowed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wide(monkeypatch)
    assert exit_code("list", "models", "--filter", "resnet18*") == 0
    out = capsys.readouterr().out
    assert "resnet18d" in out
    assert "vit" not in out


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
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert all(word in error for word in words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--preset", "digit"], "digits"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "--images", "few"], "--images"),
        (["report", "nowhere"], "holds no run"),
        (["list", "explainer"], "explainers"),
        (["rum"], "rum"),
        (["run", "--colour", "red"], "--colour"),
    ],
)
def test_wrong_words_are_told_in_one_line_with_exit_code_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert expected in error


def test_a_report_on_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("report", str(tmp_path)) == 2
    assert "run.json" in capsys.readouterr().err


def test_an_output_that_cannot_be_written(
    tiny_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert exit_code("run", "--config", str(tiny_file()), "--output", str(tmp_path / "file")) == 2
    assert "--output" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"


def test_stopping_by_hand_exits_with_130(
    tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: Engine) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "run", stop)
    assert exit_code("run", "--config", str(tiny_file())) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden(tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Engine) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "run", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "--config", str(tiny_file())])


def test_problems_are_printed(
    no_page: None, tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explainers["random"], "refusal", lambda self, model: "it [does] not like it")
    assert (
        exit_code("run", "--config", str(tiny_file(models=TWO[:1], explainers=["random", "grad_cam"], metrics=["auc"])))
        == 0
    )
    assert "plain, random: left out: it [does] not like it" in capsys.readouterr().err


def test_help_and_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    assert "report" in capsys.readouterr().out
    assert exit_code() in (0, 2)


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


def test_validate_tells_everything_and_exits_with_2(
    tiny_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("validate", str(tiny_file())) == 0
    assert "can be run" in capsys.readouterr().out
    assert exit_code("validate", str(tiny_file(explainers=["gradcam"], shard=0))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["explainers.0", "shard"]
    assert "2 errors" in lines[2]
    assert exit_code("validate", str(tiny_file()), "--set", "images=0") == 2


def test_help_imports_no_heavy_library() -> None:
    heavy = ("torch", "numpy", "pandas", "pydantic", "matplotlib", "timm", "rich.progress")
    code = f"import sys, benchmarks.cli; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "RunConfig"


@pytest.mark.parametrize("ok", [True, False])
def test_check_tells_what_holds(ok: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    check = pytest.importorskip("benchmarks.checks.explainer")
    wide(monkeypatch)
    found = SimpleNamespace(
        ok=ok, lines=lambda: [("shape", True, "(N, 1, H, W)"), ("speed", ok, "3 [images] a second")]
    )
    monkeypatch.setattr(check, "check_plugin", lambda path: found)
    assert exit_code("check", "mine.py") == int(not ok)
    out = capsys.readouterr().out
    assert "3 [images] a second" in out
    assert ("failed" in out) is not ok


def test_two_runs_are_compared_merged_and_exported(
    done: tuple[RunConfig, Outcome],
    warm: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide(monkeypatch)
    first = str(done[1].folder)
    second = str(Engine(warm(name="second", metrics=["sparseness"], explainers=["random"])).run().folder)
    assert exit_code("compare", first, first, "--output", str(tmp_path / "same.csv")) == 0
    assert "pixel_flipping" in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "same.csv")["verdict"]) == {"same"}
    pages: list[object] = []
    monkeypatch.setattr(runs, "write_page", pages.append)
    assert exit_code("merge", first, second, "--into", str(tmp_path / "both")) == 0
    assert pages == [tmp_path / "both"]
    assert exit_code("merge", first, second, "--into", str(tmp_path / "both")) == 2
    assert exit_code("export", str(tmp_path / "both"), "--output", str(tmp_path / "tables")) == 0
    assert "sparseness" in set(pd.read_csv(tmp_path / "tables" / "scores.csv")["metric"])
    assert exit_code("export", first, "--output", str(tmp_path / "tables"), "--format", "latex") == 0
    assert r"\toprule" in (tmp_path / "tables" / "summary.tex").read_text()
    assert exit_code("export", first, "--output", str(tmp_path / "tables"), "--format", "word") == 2


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

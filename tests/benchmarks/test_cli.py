from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baselines import explainers
from benchmarks import cli
from benchmarks.engine import Engine
from benchmarks.metrics import metrics
from interp_core.datasets import datasets


def called(*words: str) -> int:
    """Exit code of the command."""
    try:
        cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no line of a table is cut."""
    monkeypatch.setattr(cli.console, "width", 400)


@pytest.mark.parametrize(
    ("things", "names"),
    [
        ("explainers", list(explainers)),
        ("metrics", [score.name for metric in metrics.values() for score in metric.scores]),
        ("datasets", list(datasets)),
        ("presets", ["digits", "smoke"]),
    ],
)
def test_list_names_everything(
    things: str, names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide(monkeypatch)
    assert called("list", things) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names)


def test_list_models_can_be_narrowed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wide(monkeypatch)
    assert called("list", "models", "--filter", "resnet18*") == 0
    out = capsys.readouterr().out
    assert "resnet18d" in out
    assert "vit" not in out


def test_run_and_report_write_the_same_page(
    tiny_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("run", "--config", str(tiny_file(models=TWO[:1], explainers=["random"], metrics=["auc"]))) == 0
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
    assert called("report", str(folder)) == 0
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
    assert called("run", "--config", str(tiny_file(**changes)), *options) == 2
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
    assert called(*words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert expected in error


def test_a_report_on_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("report", str(tmp_path)) == 2
    assert "run.json" in capsys.readouterr().err


def test_an_output_that_cannot_be_written(
    tiny_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert called("run", "--config", str(tiny_file()), "--output", str(tmp_path / "file")) == 2
    assert "--output" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"


def test_stopping_by_hand_exits_with_130(
    tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: Engine) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "run", stop)
    assert called("run", "--config", str(tiny_file())) == 130
    assert "goes on" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden(tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Engine) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "run", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "--config", str(tiny_file())])


def test_problems_are_printed(
    tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explainers["random"], "unsupported", lambda self, model: "it [does] not like it")
    assert (
        called("run", "--config", str(tiny_file(models=TWO[:1], explainers=["random", "grad_cam"], metrics=["auc"])))
        == 0
    )
    assert "plain, random: left out: it [does] not like it" in capsys.readouterr().err


def test_help_and_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("--help") == 0
    assert "report" in capsys.readouterr().out
    assert called() in (0, 2)

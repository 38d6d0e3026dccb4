"""`interp-bench study`: options reach the studies, and errors are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.command import exit_code

from benchmarks.studies import faces, linear_probe, redistribution, results_page, retrofit
from benchmarks.studies.shortcut import fragility
from benchmarks.studies.shortcut import study as shortcut
from benchmarks.studies.tables import fits, networks, twins
from benchmarks.studies.xray import study as xray

pytestmark = pytest.mark.slow

STUDIES = [
    "coverage",
    "retrofit",
    "linear-probe",
    "faces",
    "shortcut",
    "fragility",
    "pairs",
    "xray",
    "fits",
    "networks",
    "twins",
    "redistribution",
    "page",
]
RETROFIT = ("--backbone", "resnet18", "--weights", "w", "--out", "o", "--data", "d")


def study_code(*words: str) -> int:
    return exit_code("study", *words)


def record(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[Any]:
    """Replace a study; return the list that its arguments are appended to."""
    calls: list[Any] = []

    def run(*arguments: Any, **options: Any) -> list[Path]:
        calls.append((*arguments, options) if options else arguments)
        return [Path("results/made.csv")]

    monkeypatch.setattr(module, "run", run)
    return calls


def test_every_study_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert study_code("--help") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in STUDIES)


def test_a_study_runs_and_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "timm.csv"
    assert study_code("coverage", "test_resnet", "--output", str(path)) == 0
    out = capsys.readouterr().out
    assert "convolutional: 1 of 1 attached" in out
    assert out.splitlines()[-2:] == [str(path), str(path.with_suffix(".json"))]


def test_options_reach_the_studies(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = record(monkeypatch, shortcut)
    assert study_code("shortcut", "--seeds", "0, 3", "--arms", "plain,lap", "--epochs", "2", "--report") == 0
    root, output = Path("tinyimagenet20.tar"), Path("results/method")
    assert calls == [("digits", root, [0, 3], ["plain", "lap"], None, 2, output, {"report_only": True})]
    assert capsys.readouterr().out == "results/made.csv\n"
    calls = record(monkeypatch, fragility)
    assert study_code("fragility", "--data", "tinyimagenet20", "--root", "tiny", "--train", "40") == 0
    seeds = [0, 1, 2, 3, 4]
    assert calls == [("tinyimagenet20", Path("tiny"), seeds, [], 40, None, output, {"report_only": False})]
    calls = record(monkeypatch, xray)
    assert study_code("xray", "--root", "rsna", "--on", "val") == 0
    assert calls == [(Path("rsna"), [0, 1, 2], 5, list(xray.DEFAULT_ARMS), "val", None, xray.OUTPUT, None)]
    calls = record(monkeypatch, faces)
    assert study_code("faces", "--root", "celeba") == 0
    assert calls == [(Path("celeba"), list(faces.ATTRIBUTES), 64, None, faces.OUTPUT)]
    calls = record(monkeypatch, redistribution)
    assert study_code("redistribution") == 0
    assert calls == [(output, redistribution.EPOCHS)]


def test_options_in_json_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    common = ("--backbone", "resnet18", "--weights", "w.pt", "--out", "o.safetensors", "--kwargs", '{"stem_width": 8}')
    calls = record(monkeypatch, retrofit)
    assert (
        study_code("retrofit", *common, "--data", "a:train:5", "--data", "b:val:6", "--effects", '{"crop": 0.5}') == 0
    )
    settings = calls[0][0]
    assert (settings.data, settings.effects) == (["a:train:5", "b:val:6"], {"crop": 0.5})
    assert settings.model().kwargs == {"stem_width": 8}
    calls = record(monkeypatch, linear_probe)
    normalise = {"mean": [0.5] * 3, "std": [0.25] * 3}
    words = ("--data", '{"name": "folder"}', "--normalise", json.dumps(normalise))
    assert study_code("linear-probe", *common, *words) == 0
    model, *others = calls[0]
    assert others == [1000, {"name": "folder"}, Path("o.safetensors")]
    assert model.model_dump(mode="json")["normalise"] == normalise


def test_folders_of_runs_reach_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record(monkeypatch, fits)
    assert study_code("fits", "every", "one", "two", "--into", "made") == 0
    assert calls == [(Path("every"), [Path("one"), Path("two")], Path("made"), fits.ALIKE)]
    calls = record(monkeypatch, networks)
    assert study_code("networks", "run") == 0
    assert calls == [(Path("run"),)]
    calls = record(monkeypatch, twins)
    assert study_code("twins", "a:b", "c:d") == 0
    assert calls == [([(Path("a"), Path("b")), (Path("c"), Path("d"))], twins.OUTPUT)]


def test_the_page_of_results_is_checked_or_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results_page, "outdated", lambda root: [root / "README.md"] if root.name == "old" else [])
    monkeypatch.setattr(results_page, "write_pages", lambda root: [root / "docs" / "results.md"])
    assert study_code("page", "--check", "new") == 0
    assert study_code("page", "--check", "old") == 1
    assert study_code("page", "old") == 0
    assert capsys.readouterr().out.splitlines() == ["old/README.md", "old/docs/results.md"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("shortcut", "--arms", "lapp"), "lapp"),
        (("shortcut", "--data", "digit"), "digits"),
        (("shortcut", "--seeds", "0;1"), "seeds must be integers"),
        (("xray", "--root", "nowhere", "--arms", "lapp"), "lapp"),
        (("twins", "only-one"), "as LAP:PLAIN"),
        (("retrofit", *RETROFIT, "--recipe", "{"), "--recipe"),
        (("retrofit", *RETROFIT, "--recipe", '{"epoch": 1}'), "epoch"),
        (("retrofit", *RETROFIT, "--attach", '{"refine": true}', "--teach", '["ordr"]'), "order"),
        (("retrofit", *RETROFIT, "--kwargs", "[]"), "kwargs"),
    ],
)
def test_errors_are_one_line(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert study_code(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

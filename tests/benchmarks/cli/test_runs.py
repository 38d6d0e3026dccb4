from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from helpers.command import exit_code

from benchmarks.cli import runs
from benchmarks.config.run import RunConfig
from benchmarks.run.engine import Engine, Outcome

pytestmark = pytest.mark.slow


def test_a_report_on_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("report", str(tmp_path)) == 2
    assert "run.json" in capsys.readouterr().err


def test_two_runs_are_compared_merged_and_exported(
    wide: None,
    done: tuple[RunConfig, Outcome],
    warm: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
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

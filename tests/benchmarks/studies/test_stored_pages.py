"""Pages under results/ are what the code of today makes of the stored rows, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers.shared import ROOT

from benchmarks.speed import table, zoo_table
from benchmarks.speed.zoo_rows import read_zoo
from benchmarks.store.run_folder import read_run
from benchmarks.studies import faces
from benchmarks.studies.shortcut import report
from benchmarks.studies.tables import networks
from benchmarks.studies.xray import page

RESULTS = ROOT / "results"
METHOD = RESULTS / "method"

pytestmark = pytest.mark.slow


def without_command(text: str) -> list[str]:
    """Return the lines of a page; commands have been renamed since."""
    return [line.partition("Made by")[0] for line in text.splitlines()]


def test_faces() -> None:
    assert faces.to_markdown(pd.read_csv(METHOD / "faces.csv")) == (METHOD / "faces.md").read_text()


def test_xray(tmp_path: Path) -> None:
    for name in ("answers", "maps", "trainings"):
        shutil.copy(METHOD / f"medical_{name}.csv", tmp_path)
    for path in page.write_page(tmp_path):
        assert path.read_bytes() == (METHOD / path.name).read_bytes()


@pytest.mark.parametrize("data", ["digits", "tinyimagenet20"])
def test_shortcut(data: str) -> None:
    rows = pd.read_csv(METHOD / f"control_{data}.csv", dtype={"commit": str})
    costs = pd.read_csv(METHOD / f"control_{data}_cost.csv").set_index("arm")
    text = report.to_markdown(rows, costs, "interp-bench study shortcut")
    assert without_command(text) == without_command((METHOD / f"control_{data}.md").read_text())


@pytest.mark.parametrize("name", ["ablation", "digits_order", "photographs", "rivals"])
def test_networks(name: str) -> None:
    run, tables = read_run(METHOD / name), METHOD / name / "tables"
    comparison = networks.compare_networks(run.scores, run.record)
    assert comparison.to_csv(float_format="%.6g") == (tables / "side_by_side.csv").read_text()
    assert networks.to_markdown(comparison, run.record) == (tables / "side_by_side.md").read_text()


@pytest.mark.parametrize("folder", ["speed", "speed/steps"])
def test_speed(folder: str) -> None:
    results = table.read(RESULTS / folder / "speed.json")
    assert table.to_csv(results.rows) == (RESULTS / folder / "speed.csv").read_text()
    assert table.to_markdown(results) == (RESULTS / folder / "speed.md").read_text()


def test_zoo() -> None:
    results = read_zoo(RESULTS / "speed" / "zoo.json")
    assert table.to_csv(results.rows) == (RESULTS / "speed" / "zoo.csv").read_text()
    assert zoo_table.to_markdown(results) == (RESULTS / "speed" / "zoo.md").read_text()

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.config.run import RunConfig
from benchmarks.report import analyse
from benchmarks.report.export import export
from benchmarks.report.files import tables_by_name
from benchmarks.report.latex import latex_table
from benchmarks.run.engine import Outcome
from benchmarks.store.run_folder import read_run


@pytest.mark.slow
@pytest.mark.parametrize(("form", "ending"), [("csv", ".csv"), ("latex", ".tex")])
def test_every_table_with_rows_is_written(
    done: tuple[RunConfig, Outcome], tmp_path: Path, form: str, ending: str
) -> None:
    data = read_run(done[1].folder)
    written = export(data, tmp_path / "out", form)  # type: ignore[arg-type]
    expected = {name for name, table in tables_by_name(analyse(data)).items() if len(table)} | (
        {"scores"} if form == "csv" else set()
    )
    assert {path.stem for path in written} == expected >= {"summary", "ranks", "paired", "degenerate"}
    assert {path.suffix for path in written} == {ending}


@pytest.mark.slow
def test_csv_loses_nothing(done: tuple[RunConfig, Outcome], tmp_path: Path) -> None:
    data = read_run(done[1].folder)
    export(data, tmp_path)
    found = pd.read_csv(tmp_path / "scores.csv", dtype={"image_id": str})
    assert (found["value"].to_numpy() == data.all_scores["value"].to_numpy()).all()
    assert list(found.columns) == list(data.all_scores.columns)


def test_latex_has_rules_and_escapes_and_rounds() -> None:
    table = pd.DataFrame({"ex_plainer": ["grad_cam", "a & b"], "mean": [0.12345, float("nan")], "n": [3, 4]})
    text = latex_table(table)
    assert re.findall(r"\\(\w+rule)", text) == ["toprule", "midrule", "bottomrule"]
    assert r"\begin{tabular}{lrr}" in text
    assert r"ex\_plainer & mean & n \\" in text
    assert r"grad\_cam & 0.123 & 3 \\" in text
    assert r"a \& b & -- & 4 \\" in text

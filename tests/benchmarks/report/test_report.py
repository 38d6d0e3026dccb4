from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.reports import NOTHING, few_scores

from benchmarks.report import RunData, write_report
from benchmarks.statistics import COLUMNS
from benchmarks.store.record import RunRecord

pytestmark = pytest.mark.slow


def test_the_same_data_give_the_same_files(tmp_path: Path) -> None:
    data = RunData(
        synthetic.record(), few_scores(synthetic.scores(images=4)).query("model == 'lap' and metric != 'forwards'")
    )
    first = {path.name: path.read_bytes() for path in write_report(data, tmp_path / "a")}
    mixed = RunData(synthetic.record(), data.scores.sample(frac=1, random_state=1))
    assert {path.name: path.read_bytes() for path in write_report(mixed, tmp_path / "b")} == first


def test_an_empty_run_still_has_its_page_and_tables(tmp_path: Path) -> None:
    paths = write_report(NOTHING, tmp_path)
    assert sorted(path.suffix for path in paths) == [*[".csv"] * 6, ".html", ".md", ".tex"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No scores have been computed yet" in text
    assert "unfinished" in text
    assert "<dt>Platform</dt><dd>–</dd>" in text
    assert "– px; – training" in text
    assert tuple(pd.read_csv(tmp_path / "tables" / "summary.csv").columns) == COLUMNS


def test_entries_may_lack_everything_but_their_name(tmp_path: Path) -> None:
    meta = synthetic.meta()
    for part in ("models", "explainers", "metrics"):
        meta[part] = [{"name": entry["name"]} for entry in meta[part]]
    meta["dataset"], meta["git"], meta["problems"] = {}, {}, [{}]
    assert (tmp_path / "report.html") in write_report(
        RunData(RunRecord.model_validate(meta), few_scores(synthetic.scores(images=3))), tmp_path
    )

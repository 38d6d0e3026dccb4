"""Tables of studies: rows survive a stop, a line that was cut off is computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.shared import ROOT

from benchmarks.studies.resumable_table import ResumableTable, read_rows

pytestmark = pytest.mark.slow


def table(path: Path) -> ResumableTable:
    return ResumableTable(path, ("arm", "seed"))


def test_rows_are_in_the_file_at_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "rows.csv"
    first = table(path)
    first.add({"arm": "plain", "seed": 0, "accuracy": 0.123456, "commit": "0012345"})
    assert path.read_text() == "arm,seed,accuracy,commit\nplain,0,0.1235,0012345\n"
    second = table(path)
    assert ("plain", 0) in second
    assert second.missing([("plain", 0), ("lap", 0)]) == [("lap", 0)]
    second.add({"arm": "lap", "seed": 0, "accuracy": 0.5, "commit": "", "share": 0.25})
    assert path.read_text().splitlines()[1:] == ["plain,0,0.1235,0012345,", "lap,0,0.5,,0.25"]
    assert len(table(path)) == len(second.frame) == 2


@pytest.mark.parametrize("end", ["lap,0", "lap,0,0.5", 'lap,0,"0.', "l"])
def test_a_last_line_that_was_cut_off_is_dropped(end: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("arm,seed,accuracy\nplain,0,0.75\n" + end)
    assert table(path).units == {("plain", 0)}
    path.write_text("arm,seed,accu")
    assert read_rows(path) == []
    path.write_text("")
    assert read_rows(path) == []


def test_values_with_commas_and_line_breaks_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table(path).add({"arm": "a, b", "seed": 0, "why": 'one\n"two"'})
    assert read_rows(path) == [{"arm": "a, b", "seed": 0, "why": 'one\n"two"'}]


def test_a_table_may_be_sorted(tmp_path: Path) -> None:
    rows = ResumableTable(tmp_path / "rows.csv", ("name",), sort=("kind", "name"))
    rows.add({"name": "b", "kind": "x"})
    rows.add({"name": "a", "kind": "x"}, {"name": "c", "kind": "w"})
    assert pd.read_csv(rows.path)["name"].tolist() == ["c", "a", "b"]
    assert rows.frame["name"].tolist() == ["b", "a", "c"]


def test_rows_of_units_that_are_not_complete_are_forgotten(tmp_path: Path) -> None:
    rows = table(tmp_path / "rows.csv")
    rows.add({"arm": "plain", "seed": 0}, {"arm": "plain", "seed": 0}, {"arm": "lap", "seed": 1})
    rows.drop_others({("plain", 0)})
    assert rows.units == {("plain", 0)}
    assert len(rows) == 2


STORED = [
    ("coverage/timm.csv", {"keys": ("name",), "sort": ("kind", "family", "name"), "float_format": "%.3g"}),
    ("method/control_digits.csv", {"keys": ("arm", "seed")}),
    ("method/control_tinyimagenet20_cost.csv", {"keys": ("arm",)}),
    ("method/medical_trainings.csv", {"keys": ("arm", "seed", "fold"), "float_format": "%.6g"}),
    ("method/medical_maps.csv", {"keys": ("arm", "seed", "fold"), "float_format": "%.6g"}),
]


@pytest.mark.parametrize(("name", "options"), STORED, ids=[name for name, _ in STORED])
def test_stored_rows_stay_as_they_are_when_a_study_continues(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    stored = (ROOT / "results" / name).read_bytes()
    path = tmp_path / "rows.csv"
    path.write_bytes(stored)
    ResumableTable(path, **options).add()
    assert path.read_bytes() == stored

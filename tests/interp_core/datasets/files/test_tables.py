"""Tables in any usual encoding and form."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from interp_core.datasets import Finding
from interp_core.datasets.files.tables import TableError, read_celeba_table, read_table, to_numbers

TEXT = 'Name, X ,y\n"a, b",007,1.5\ncafé,,x\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.replace("\n", end).encode(encoding))
    table = read_table(path, ("name", "X"))
    assert list(table.columns) == ["name", "x", "y"]
    assert table["name"].tolist() == ["a, b", "café"]
    assert table["x"].tolist() == ["007", ""]
    np.testing.assert_array_equal(to_numbers(table, ("x", "y")), [[7, 1.5], [math.nan, math.nan]])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TEXT.replace('"a, b"', "a").replace(",", separator))
    assert list(read_table(path).columns) == ["name", "x", "y"]


def test_what_is_wrong_with_rows_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n1,2\n3,4,5\n6\n")
    findings: list[Finding] = []
    table = read_table(path, findings=findings)
    assert table.to_numpy().tolist() == [["1", "2"], ["3", "4"], ["6", ""]]
    assert table.index.tolist() == [1, 3, 4]
    assert [(finding.kind, finding.where) for finding in findings] == [
        ("row", "t.csv"),
        ("duplicate row", "t.csv, row 2"),
    ]


def test_rows_that_are_all_longer_than_the_header_are_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2,3\n4,5,6\n")
    findings: list[Finding] = []
    assert read_table(path, findings=findings).to_numpy().tolist() == [["1", "2"], ["4", "5"]]
    assert [finding.kind for finding in findings] == ["row"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"a,b\n1,2\n", bytes(30)])
def test_a_column_that_is_missing_is_named_as_on_the_page(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"t\.csv \(the labels of the page\)"):
        read_table(path, ("c",), "the labels of the page")
    with pytest.raises(TableError, match=r"the labels of the page.*No such file"):
        read_table(tmp_path / "nowhere.csv", (), "the labels of the page")


def test_lists_in_the_manner_of_celeba(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    for text in (
        "2\nx y\na.jpg 1 -1\nb.jpg  -1  1\n",
        "2\nimage_id x y\na.jpg 1 -1\nb.jpg -1 1",
        "a.jpg 1 -1\nb.jpg -1 1\n",
    ):
        path.write_text(text)
        table = read_celeba_table(path, ("x", "y"))
        assert list(table.columns) == ["file", "x", "y"]
        assert table.to_numpy().tolist() == [["a.jpg", "1", "-1"], ["b.jpg", "-1", "1"]]

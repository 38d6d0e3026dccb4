"""Tables of any kind, boxes of any kind, and how images are divided."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp_core.datasets import Box, Finding, Record
from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.paths import find_file, resolve_beneath, walk_files
from interp_core.datasets.files.splits import SplitRecord, complete_splits, divide
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


# Boxes

corner = st.one_of(st.floats(-50, 50), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 30.0]))


@given(st.tuples(corner, corner, corner, corner), st.sampled_from([None, (30, 20)]))
def test_a_box_marks_what_it_marked_within_the_image_or_nothing(
    corners: tuple[float, ...], size: tuple[int, int] | None
) -> None:
    findings: list[Finding] = []
    box = repair_box(corners, "t.csv, row 1", findings, 3, size)
    if box is None:
        assert "left out" in findings[-1].what
        return
    x0, x1 = sorted((corners[0], corners[2]))
    y0, y1 = sorted((corners[1], corners[3]))
    wide, high = size or (math.inf, math.inf)
    assert box == Box(max(x0, 0), max(y0, 0), min(x1, wide), min(y1, high), 3)
    assert box.x0 < box.x1
    assert box.y0 < box.y1
    assert bool(findings) == (tuple(corners) != (box.x0, box.y0, box.x1, box.y1))


# Division


def record(number: int, target: int, group: str = "") -> Record:
    return Record(f"i{number}", Path(f"{number}.png"), (target,), group=group)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(0, 5), st.booleans())
def test_every_image_is_in_one_split_and_classes_are_in_proportion(
    targets: list[int], seed: int, grouped: bool
) -> None:
    records = [record(i, target, f"g{target}{i // 3}" if grouped else "") for i, target in enumerate(targets)]
    parts = divide(records, {"train": 0.7, "val": 0.1, "test": 0.2}, seed)
    assert sorted(r.id for part in parts.values() for r in part) == sorted(r.id for r in records)
    groups = [{r.group for r in part if r.group} for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    if not grouped:
        for target in range(4):
            got = [sum(r.targets == (target,) for r in parts[split]) for split in ("train", "val", "test")]
            np.testing.assert_allclose(got, np.array([0.7, 0.1, 0.2]) * targets.count(target), atol=2)
    shuffled = divide(records[::-1], {"train": 0.7, "val": 0.1, "test": 0.2}, seed)
    assert {s: {r.id for r in p} for s, p in parts.items()} == {s: {r.id for r in p} for s, p in shuffled.items()}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"train": 100, "val": 10, "test": 20}, (100, 10, 20)),
        ({"train": 100, "test": 20}, (90, 10, 20)),
        ({"train": 100, "val": 10}, (90, 10, 10)),
        ({"val": 10}, (0, 0, 10)),
        ({"train": 100}, (70, 10, 20)),
        ({None: 100}, (70, 10, 20)),
        ({"train": 100, "val": 10, "test": 20, None: 10}, (107, 11, 22)),
    ],
)
def test_splits_that_are_not_told_are_made(own: dict[str | None, int], expected: tuple[int, ...]) -> None:
    counted = iter(range(1000))
    labelled = [
        SplitRecord(record(next(counted), 0), split)  # type: ignore[arg-type]
        for split, count in own.items()
        for _ in range(count)
    ]
    assert tuple(len(part) for part in complete_splits(labelled, 0).values()) == expected


# Listing


@pytest.mark.parametrize("name", ["", "/a.png", "../a.png", "a/../../b.png", "C:\\a.png", "\\\\host\\a.png", "a\0.png"])
def test_a_table_leads_nowhere_but_beneath_the_root(tmp_path: Path, name: str) -> None:
    assert resolve_beneath(tmp_path, name) is None
    assert find_file(tmp_path, name, (".",)) is None


def test_files_are_listed_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.PNG", "a.png", ".hidden.png", ".hidden/3.png", "c.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in walk_files(tmp_path, frozenset({".png"}))]
    assert found == ["a.png", "b/1.PNG", "b/2.png"]

"""Tables of images as people have them: columns, paths, numbers, contradictions and boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import class_folders, picture, write

from interp_core.datasets import Folder
from interp_core.errors import InterpError

COUNT = 6


def make(root: Path, head: str, row: Callable[[int], str], folder: str = ".", name: str = "index.csv") -> Folder:
    for i in range(COUNT):
        picture(root / folder / f"i{i}.png", (40, 40), seed=i)
    write(root / name, "\n".join([head, *(row(i) for i in range(COUNT))]))
    return Folder(root=root, image_size=40, workers=0)


def total(dataset: Folder) -> int:
    return sum(map(len, dataset.indexed.records.values()))


def kinds(dataset: Folder) -> list[str]:
    return [finding.kind for finding in dataset.findings]


# Columns


@pytest.mark.parametrize("head", ["image,diagnosis", "photo,label", "picture_name,verdict", "label,unnamed: 0"])
def test_columns_without_a_known_name_are_told_by_their_content(tmp_path: Path, head: str) -> None:
    columns = head.split(",")
    is_reversed = columns[0] == "label"
    dataset = make(tmp_path, head, lambda i: f"{i % 2},i{i}.png" if is_reversed else f"i{i}.png,{i % 2}")
    assert (dataset.classes, total(dataset)) == (("0", "1"), COUNT)
    assert kinds(dataset) == ["columns"]
    assert "known columns: file, label" in dataset.findings[0].what


@pytest.mark.parametrize(("third", "multi_label"), [("0", False), ("1", True)])
def test_a_column_for_each_class(tmp_path: Path, third: str, multi_label: bool) -> None:
    dataset = make(tmp_path, "file,cat,dog,bird", lambda i: f"i{i}.png,{i % 2},{1 - i % 2},{third}")
    assert dataset.classes == ("cat", "dog", "bird")
    assert dataset.multi_label is multi_label
    assert total(dataset) == COUNT


def test_a_table_without_a_label_says_what_it_has_and_what_is_known(tmp_path: Path) -> None:
    dataset = make(tmp_path, "file,age,height", lambda i: f"i{i}.png,{20 + i},{1.5 + i}")
    with pytest.raises(InterpError, match=r"lacks a column of: label \(known: label.*it has file, age, height"):
        _ = dataset.classes


def test_unknown_columns_do_not_outweigh_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    write(tmp_path / "index.csv", "file,sharpness\ncat/cat0.png,3\n")
    dataset = Folder(root=tmp_path)
    assert dataset.detect_layout() == "classes"
    assert total(dataset) == 8


def test_a_misspelt_column_is_reported(tmp_path: Path) -> None:
    dataset = make(tmp_path, "file,label,subjct", lambda i: f"i{i}.png,{i % 2},p{i}")
    assert kinds(dataset) == ["unknown column"]
    assert "subjct" in dataset.describe_layout()


# Labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "1", "2", "3", "-1"], ("-1", "1", "2", "3", "9", "10")),
        (["10.0", "9.0", "1.0", "2.0", "3.0", "0.0"], ("0.0", "1.0", "2.0", "3.0", "9.0", "10.0")),
        (["1.0", "1", "2", "2.0", "3", "10"], ("1", "2", "3", "10")),
        (["10", "9", "b", "a", "1", "2"], ("1", "10", "2", "9", "a", "b")),
    ],
)
def test_numbers_are_in_their_order(tmp_path: Path, labels: list[str], classes: tuple[str, ...]) -> None:
    assert make(tmp_path, "file,label", lambda i: f"i{i}.png,{labels[i]}").classes == classes


def test_contradicting_rows_are_reported(tmp_path: Path) -> None:
    more = "\ni0.png,b,test\ni0.png,a,test"
    dataset = make(tmp_path, "file,label,split", lambda i: f"i{i}.png,a,train{more if i == COUNT - 1 else ''}")
    assert kinds(dataset) == ["contradicting rows"] * 2
    assert total(dataset) == COUNT


@pytest.mark.parametrize(("column", "values"), [("split", "012012"), ("fold", "123123"), ("usage", None)])
def test_splits_by_number_or_word(tmp_path: Path, column: str, values: str | None) -> None:
    words = values or ["Training", "PublicTest", "dev"] * 2
    dataset = make(tmp_path, f"file,label,{column}", lambda i: f"i{i}.png,{i // 3},{words[i]}")
    assert {split: len(members) for split, members in dataset.indexed.records.items()} == {
        "train": 2,
        "val": 2,
        "test": 2,
    }


# Paths


@pytest.mark.parametrize(
    "name", ["i{i}.png", "./images/i{i}.png", "images\\i{i}.png", "i{i}", "I{i}.PNG", "old/images/i{i}.png"]
)
def test_names_of_images(tmp_path: Path, name: str) -> None:
    dataset = make(tmp_path, "image_id,label", lambda i: f"{name.format(i=i)},{i % 2}", folder="images")
    assert (total(dataset), dataset.findings) == (COUNT, ())


def test_absolute_paths(tmp_path: Path) -> None:
    here = make(tmp_path / "a", "file,label", lambda i: f"{tmp_path}/a/x/i{i}.png,{i % 2}", folder="x")
    assert (total(here), here.findings) == (COUNT, ())
    windows = make(tmp_path / "b", "file,label", lambda i: f"C:\\data\\i{i}.png,{i % 2}", folder="x")
    assert (total(windows), kinds(windows)) == (COUNT, ["absolute path"])
    elsewhere = make(tmp_path / "c", "file,label", lambda i: f"/data/other{i}.png,{i % 2}")
    with pytest.raises(InterpError, match="absolute path"):
        _ = elsewhere.classes


def test_an_image_of_another_folder_is_not_taken(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "1.png")
    picture(tmp_path / "val" / "2.png")
    picture(tmp_path / "more" / "2.png")
    write(tmp_path / "index.csv", "file,label\ntrain/1.png,a\n2.png,b\nval/2.png,a\n")
    dataset = Folder(root=tmp_path)
    assert total(dataset) == 1
    assert kinds(dataset).count("label without image") == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, separator: str) -> None:
    for i in range(4):
        picture(tmp_path / f"ä {i}.png")
    rows = ["File,Class", *(f"ä {i}.png,{i % 2}" for i in range(4))]
    (tmp_path / "index.csv").write_bytes("\r\n".join(rows).replace(",", separator).encode(encoding))
    assert total(Folder(root=tmp_path)) == 4


# Boxes


@pytest.mark.parametrize("table", ["index.csv", "boxes.csv"])
@pytest.mark.parametrize(
    ("head", "box"),
    [
        ("x0,y0,x1,y1", "10,10,20,20"), ("x1,y1,x2,y2", "10,10,20,20"), ("left,top,right,bottom", "10,10,20,20"),
        ("x,y,w,h", "10,10,10,10"), ("xmin,ymin,width,height", "10,10,10,10"), ("bbox", '"[10, 10, 10, 10]"'),
        ("bbox", "10 10 10 10"), ("bbox", "\"{'x': 10, 'y': 10, 'w': 10, 'h': 10}\""),
        ("x0,y0,x1,y1", "0.25,0.25,0.5,0.5"), ("x_center,y_center,w,h", "0.375,0.375,0.25,0.25"),
        ("bbox", '"[0.25, 0.25, 0.25, 0.25]"'), ("box", '"[[10, 10, 10, 5], [10, 15, 10, 5]]"'),
    ],
)  # fmt: skip
def test_boxes_in_every_form(tmp_path: Path, table: str, head: str, box: str) -> None:
    if table == "index.csv":
        dataset = make(tmp_path, f"file,label,{head}", lambda i: f"i{i}.png,{i % 2},{box}")
    else:
        class_folders(tmp_path, count=3)
        rows = [
            f"file,label,{head}",
            *(f"{name}/{name}{i}.png,{name},{box}" for name in ("cat", "dog") for i in range(3)),
        ]
        write(tmp_path / table, "\n".join(rows))
        dataset = Folder(root=tmp_path, image_size=40, workers=0, resize="squash")
    part = dataset.load("test")
    share = 1 / 16 if table == "index.csv" or "." in box else 100 / (32 * 24)
    assert part.areas(np.arange(len(part))) == pytest.approx(share, abs=0.05)
    assert set(kinds(dataset)) <= {"boxes in shares"}


def test_corners_in_one_column_are_told_by_the_size_of_the_images(tmp_path: Path) -> None:
    dataset = make(tmp_path, "file,label,bbox", lambda i: f'i{i}.png,{i % 2},"[10, 10, {30 + i}, 36]"')
    assert dataset.indexed.records["test"][0].boxes[0].x1 >= 30
    assert kinds(dataset) == ["box format"]
    forced = Folder(root=tmp_path, box_format="size")
    assert forced.indexed.records["test"][0].boxes[0].x1 >= 40
    assert "box_format" not in dataset.identity()
    assert forced.identity()["box_format"] == "size"


def test_pixels_and_shares_in_one_table_are_reported(tmp_path: Path) -> None:
    rows = ["1,2,9,9", "2,3,8,8", "0.1,0.1,0.5,0.5", "1,1,5,5", "1,x,5,5", ",,,"]
    dataset = make(tmp_path, "file,label,x0,y0,x1,y1", lambda i: f"i{i}.png,{i % 2},{rows[i]}")
    assert kinds(dataset) == ["box in shares", "box"]
    assert total(dataset) == COUNT

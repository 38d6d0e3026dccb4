"""COCO JSON as exporters write it: an odd entry costs itself alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layouts import picture

from interp_core.datasets import Box, Folder

COUNT = 6
Change = Callable[[dict[str, Any]], Any]


def make(
    root: Path, change: Change = lambda _: None, name: str = "annotations/all.json", encoding: str = "utf-8"
) -> Folder:
    images = [{"id": i, "file_name": f"i{i}.png", "width": 40, "height": 40} for i in range(COUNT)]
    entries = [{"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [10, 10, 10, 10]} for i in range(COUNT)]
    content = {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    for i in range(COUNT):
        picture(root / "images" / f"i{i}.png", (40, 40), seed=i)
    change(content)
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding=encoding)
    return Folder(root=root, image_size=40, workers=0)


def first(**fields: Any) -> Change:
    return lambda content: content["annotations"][0].update(fields)


def total(dataset: Folder) -> int:
    return sum(map(len, dataset.indexed.records.values()))


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ([10, 10, 1, 0], "box empty"), ([20, 10, -10, 10], "box inverted"), ([-5, -5, 10, 10], "box outside"),
        ([500, 500, 10, 10], "box outside"), ([float("nan"), 1, 2, 3], "box"), ([], "box"), ([1, 2, None, 4], "box"),
        ("none", "box"), (7, "box"), (None, None), ({"x": 1, "y": 1, "width": 3, "height": 3}, None),
        (["1", "2", "3", "4"], None),
    ],
)  # fmt: skip
def test_an_odd_box_costs_itself(tmp_path: Path, box: Any, kind: str | None) -> None:
    dataset = make(tmp_path, first(bbox=box))
    assert total(dataset) == COUNT
    assert [finding.kind for finding in dataset.findings] == ([kind] if kind else [])


def as_text(*fields: tuple[str, str]) -> Change:
    def change(content: dict[str, Any]) -> None:
        for name, key in fields:
            for entry in content[name]:
                entry[key] = str(entry[key])

    return change


@pytest.mark.parametrize(
    "change",
    [
        as_text(("annotations", "image_id")), as_text(("images", "id")), as_text(("categories", "id")),
        as_text(("annotations", "category_id")), first(area=[100]), first(iscrowd=False), first(score="high"),
    ],
)  # fmt: skip
def test_ids_are_numbers_or_text(tmp_path: Path, change: Change) -> None:
    dataset = make(tmp_path, change)
    assert (dataset.classes, total(dataset), dataset.findings) == (("a", "b"), COUNT, ())


def test_entries_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"] += [None, {"image_id": 1}, {"image_id": [1], "category_id": 1}]
        content["images"] += [{"id": 99}, {"id": 1, "file_name": "i1.png"}]
        content["categories"].append({"id": 3})

    dataset = make(tmp_path, spoil)
    assert total(dataset) == COUNT
    assert len([f for f in dataset.findings if f.kind.startswith("bad ")]) == 6


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    assert total(make(tmp_path, encoding=encoding)) == COUNT


@pytest.mark.parametrize("stem", ["latest", "devices", "constrained"])
def test_a_file_that_names_no_split_is_divided(tmp_path: Path, stem: str) -> None:
    assert all(make(tmp_path, name=f"annotations/{stem}.json").indexed.records.values())


@pytest.mark.parametrize(
    ("segmentation", "pixels"),
    [
        ([[10, 10, 20, 10, 20, 30, 10, 30]], 200), ({"size": [40, 40], "counts": [0, 80, 1520]}, 80),
        ({"size": [40, 40], "counts": "0`2`_1"}, 80), ([], 100), ([[1, 2]], 100), ({"counts": [1]}, 100),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_crowd", [0, 1])
def test_polygons_and_runs_are_masks(tmp_path: Path, segmentation: Any, pixels: int, is_crowd: int) -> None:
    dataset = make(tmp_path, first(segmentation=segmentation, iscrowd=is_crowd))
    for split in ("train", "val", "test"):
        if dataset.records(split):
            images = dataset.load(split)
            areas = dict(zip(images.ids, images.areas(np.arange(len(images))), strict=True))
            if "folder/images/i0.png" in areas:
                expected = 0 if is_crowd and pixels == 100 else pixels
                assert areas["folder/images/i0.png"] == pytest.approx(expected / 1600)
    is_bad = segmentation in ([[1, 2]], {"counts": [1]})
    assert [f.kind for f in dataset.findings] == (["bad segmentation"] if is_bad else [])


def test_boxes_in_shares(tmp_path: Path) -> None:
    dataset = make(tmp_path, lambda c: [entry.update(bbox=[0.25, 0.5, 0.25, 0.25]) for entry in c["annotations"]])
    record = dataset.indexed.records["test"][0]
    assert record.size == (1, 1)
    assert record.boxes == (Box(0.25, 0.5, 0.5, 0.75, record.targets[0]),)

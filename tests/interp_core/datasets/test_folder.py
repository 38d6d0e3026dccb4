"""Folders of the user's own: class folders, tables, Pascal VOC, COCO, and the evidence beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import class_folders, coco, devkit, mask, picture, voc, write
from helpers.shared import SHARED

from interp_core.datasets import Box, Folder, MaskFile, Record
from interp_core.datasets.files.archives import unpack
from interp_core.errors import InterpError

DATA = SHARED / "data"


def all_of(dataset: Folder) -> dict[str, Record]:
    return {record.path.stem: record for records in dataset.checked_index.records.values() for record in records}


def sizes(dataset: Folder) -> dict[str, int]:
    return {split: len(members) for split, members in dataset.checked_index.records.items()}


def kinds(dataset: Folder) -> list[str]:
    return [finding.kind for finding in dataset.findings]


# Class folders


@pytest.mark.parametrize("home", ["", "images"])
def test_class_folders_are_divided_in_proportion(tmp_path: Path, home: str) -> None:
    class_folders(tmp_path / home, count=10)
    dataset = Folder(root=tmp_path)
    assert dataset.detect_layout() == "classes"
    assert dataset.classes == ("cat", "dog")
    assert sizes(dataset) == {"train": 14, "val": 2, "test": 4}
    assert [sum(r.targets[0] for r in records) for records in dataset.checked_index.records.values()] == [7, 1, 2]
    assert not dataset.multi_label


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("train", "val", "test"), {"train": 20, "val": 20, "test": 20}),
        (("Training", "valid", "testing"), {"train": 20, "val": 20, "test": 20}),
        (("train", "test"), {"train": 18, "val": 2, "test": 20}),
        (("train", "val"), {"train": 18, "val": 2, "test": 20}),
        (("train",), {"train": 14, "val": 2, "test": 4}),
        (("test",), {"train": 0, "val": 0, "test": 20}),
    ],
)
def test_splits_that_folders_tell_are_kept(tmp_path: Path, splits: tuple[str, ...], expected: dict[str, int]) -> None:
    for split in splits:
        class_folders(tmp_path, split=split)
    assert sizes(Folder(root=tmp_path)) == expected


def test_masks_by_path_or_by_name(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    by_path = mask(tmp_path / "masks/cat/cat0.png")
    by_name = mask(tmp_path / "masks/dog1.png", value=3)
    mask(tmp_path / "masks/bird7.png")
    dataset = Folder(root=tmp_path, mask_values=(3,), image_size=24, resize="squash")
    records = all_of(dataset)
    assert records["cat0"].masks == (MaskFile(by_path, (3,)),)
    assert records["dog1"].masks == (MaskFile(by_name, (3,)),)
    assert not records["dog0"].masks
    assert [(f.kind, f.where) for f in dataset.findings] == [("label without image", "bird7")]
    assert dataset.classes == ("cat", "dog")


def test_a_name_that_two_images_share_needs_the_path(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        picture(tmp_path / name / "1.png")
        picture(tmp_path / name / f"{name}.png")
    mask(tmp_path / "masks/1.png")
    dataset = Folder(root=tmp_path)
    assert not any(record.masks for records in dataset.checked_index.records.values() for record in records)
    assert kinds(dataset) == ["label without image"]


@pytest.mark.parametrize("inclusive", [False, True])
def test_boxes_of_a_table_with_its_columns_in_any_order(tmp_path: Path, inclusive: bool) -> None:
    class_folders(tmp_path, count=4)
    rows = ["Y1; X1;y0;x0;File", "9;8;2;1;cat/cat0.png", "20;19;12;11;cat\\cat0.png", "5;5;1;1;dog3"]
    write(tmp_path / "boxes.csv", "\n".join(rows))
    dataset = Folder(root=tmp_path, inclusive=inclusive)
    more = int(inclusive)
    assert all_of(dataset)["cat0"].boxes == (Box(1, 2, 8 + more, 9 + more), Box(11, 12, 19 + more, 20 + more))
    assert all_of(dataset)["dog3"].boxes == (Box(1, 1, 5 + more, 5 + more),)
    assert not dataset.findings


def test_boxes_of_xml_beside_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    voc(tmp_path / "Annotations/cat0.xml", ("cat", 1, 1, 8, 8), ("person", 3, 3, 9, 9), size=(64, 48))
    voc(tmp_path / "Annotations/dog1.xml", ("animal", 5, 5, 8, 8))
    records = all_of(Folder(root=tmp_path))
    assert (records["cat0"].boxes, records["cat0"].size) == ((Box(0, 0, 8, 8, 0),), (64, 48))
    assert records["dog1"].boxes == (Box(4, 4, 8, 8),)


def test_boxes_of_json_beside_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    content = {
        "images": [{"id": 1, "file_name": "cat0.png"}],
        "categories": [{"id": 5, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]}],
    }
    write(tmp_path / "annotations.json", json.dumps(content))
    dataset = Folder(root=tmp_path)
    assert dataset.detect_layout() == "classes"
    assert all_of(dataset)["cat0"].boxes == (Box(1, 2, 4, 6, 0),)


def test_images_outside_class_folders_and_other_files_are_said(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    picture(tmp_path / "loose.png")
    write(tmp_path / "cat" / "notes.docx", "words")
    write(tmp_path / "cat" / ".DS_Store", "")
    assert sorted((f.kind, f.where) for f in Folder(root=tmp_path).findings) == [
        ("image without label", "loose.png"), ("not an image", "notes.docx"),
    ]  # fmt: skip


@pytest.mark.parametrize("names", [(), ("notes.txt",), ("train/a.png",), ("a.png",)])
def test_a_folder_without_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(tmp_path / name, "") if name.endswith("txt") else picture(tmp_path / name)
    with pytest.raises(InterpError, match=r"has none of: index\.csv"):
        _ = Folder(root=tmp_path).checked_index


def test_what_the_configuration_names_must_be_there(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    with pytest.raises(InterpError, match="lacks outlines"):
        _ = Folder(root=tmp_path, masks="outlines").checked_index
    with pytest.raises(InterpError, match=r"cannot read .*index\.csv"):
        _ = Folder(root=tmp_path, layout="index").checked_index


def test_folders_linked_into_each_other_end(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    assert sum(sizes(Folder(root=tmp_path)).values()) == 8


# Tables


def indexed(root: Path, text: str, **fields: object) -> Folder:
    for i in range(4):
        picture(root / f"a{i}.png", seed=i)
    write(root / "index.csv", text)
    return Folder(root=root, **fields)


def test_a_table_lists_images_with_boxes_masks_groups_and_splits(tmp_path: Path) -> None:
    path = mask(tmp_path / "m.png")
    text = (
        "file,label,split,x0,y0,x1,y1,mask,group\n"
        "a0.png,cat,train,1,2,3,4,,g\na0.png,cat,train,5,6,7,8,,g\n"
        "a1.png,dog,test,,,,,m.png,\na2.png,dog,valid,,,,,,\n"
    )
    dataset = indexed(tmp_path, text)
    records = all_of(dataset)
    assert dataset.detect_layout() == "index"
    assert dataset.classes == ("cat", "dog")
    assert records["a0"] == Record(
        "folder/a0.png", tmp_path / "a0.png", (0,), (Box(1, 2, 3, 4), Box(5, 6, 7, 8)), group="g"
    )
    assert records["a1"].masks == (MaskFile(path),)
    assert sizes(dataset) == {"train": 1, "val": 1, "test": 1}
    assert sorted((f.kind, f.where) for f in dataset.findings) == [
        ("image without label", "a3.png"), ("image without label", "m.png"),
    ]  # fmt: skip


def test_names_of_numbered_classes(tmp_path: Path) -> None:
    text = "file,label,name\na0.png,10,dog\na1.png,9,cat\na2.png,10,dog\n"
    dataset = indexed(tmp_path, text)
    assert dataset.classes == ("cat", "dog")
    assert [all_of(dataset)[f"a{i}"].targets for i in range(3)] == [(1,), (0,), (1,)]
    assert indexed(tmp_path, text.replace("2.png,10,dog", "2.png,10,cow")).classes == ("9", "10")


def test_several_labels_make_it_multi_label(tmp_path: Path) -> None:
    dataset = indexed(tmp_path, "file,label,x0,y0,x1,y1\na0.png,cat|dog,,,,\na1.png,cat,1,1,2,2\na1.png,dog,3,3,4,4\n")
    assert dataset.multi_label
    records = all_of(dataset)
    assert records["a0"].targets == records["a1"].targets == (0, 1)
    assert records["a1"].boxes == (Box(1, 1, 2, 2, 0), Box(3, 3, 4, 4, 1))


def test_groups_are_not_torn_apart(tmp_path: Path) -> None:
    rows = [f"a{i}.png,{i % 2},g{i // 4}" for i in range(40)]
    for i in range(40):
        picture(tmp_path / f"a{i}.png")
    dataset = indexed(tmp_path, "\n".join(["file,label,patient", *rows]))
    groups = [{record.group for record in records} for records in dataset.checked_index.records.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10
    assert all(groups)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("nowhere.png,cat,,,,", "label without image"),
        ("../a.png,cat,,,,", "label without image"),
        ("/etc/hostname,cat,,,,", "label without image"),
        ("a1.png,,,,,", "image without label"),
        ("a1.png,cat,1,2,x,4", "box"),
        ("a1.png,cat,9,2,1,4", "box inverted"),
        ("a1.png,cat,-5,2,1,4", "box outside"),
        ("a1.png,cat,-5,2,-1,4", "box outside"),
        ("a1.png,cat,1,2,1,4", "box empty"),
        ("a0.png,cat,,,,", "duplicate row"),
        ("a1.png,cat,1,2,3,4,5,6", "row"),
        (f"{'x' * 5000}.png,cat,,,,", "label without image"),
    ],
)
def test_rows_that_do_not_fit_are_said(tmp_path: Path, row: str, kind: str) -> None:
    dataset = indexed(tmp_path, f"file,label,x0,y0,x1,y1\na0.png,cat,,,,\na2.png,dog,,,,\na3.png,dog,,,,\n{row}\n")
    assert kind in kinds(dataset)


# COCO


def test_coco_splits_boxes_and_labels(tmp_path: Path) -> None:
    coco(coco(tmp_path, "train", 20), "val", 4)
    dataset = Folder(root=tmp_path)
    assert dataset.detect_layout() == "coco"
    assert dataset.classes == ("dog", "cat")  # by category number
    assert dataset.multi_label
    assert sizes(dataset) == {"train": 18, "val": 2, "test": 4}
    assert all_of(dataset)["val0001"].boxes == (Box(1, 2, 11, 10, 1), Box(20, 4, 32, 12, 0))
    assert all_of(dataset)["val0000"].targets == (1,)
    assert set(kinds(dataset)) == {"box outside"}


def test_coco_as_exporters_lay_it(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        coco(tmp_path / "made", split)
        (tmp_path / "made" / f"{split}2017").rename(tmp_path / split)
        (tmp_path / "made/annotations" / f"instances_{split}2017.json").rename(
            tmp_path / split / "_annotations.coco.json"
        )
    dataset = Folder(root=tmp_path)
    assert dataset.detect_layout() == "coco"
    assert sum(sizes(dataset).values()) == 8


def test_coco_that_contradicts_itself_is_said(tmp_path: Path) -> None:
    path = coco(tmp_path, "train", 6) / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] += [{"image_id": 77, "category_id": 7}, {"image_id": 1, "category_id": 99}]
    content["images"] += [
        {"id": 50, "file_name": "nowhere.jpg"}, {"id": 51, "file_name": "train0001.jpg"},
        {"id": 52, "file_name": "../x"},
    ]  # fmt: skip
    write(path, json.dumps(content))
    finding_kinds = kinds(Folder(root=tmp_path))
    assert finding_kinds.count("label without image") == 4
    assert finding_kinds.count("image without label") == 1


@pytest.mark.parametrize("text", ["{", '{"images": 3, "categories": [], "annotations": []}', '{"images": []}'])
def test_json_that_is_none_of_coco(tmp_path: Path, text: str) -> None:
    write(tmp_path / "annotations.json", text)
    picture(tmp_path / "cat" / "a.png")
    with pytest.raises(InterpError):
        _ = Folder(root=tmp_path, layout="coco").checked_index


# Pascal VOC


def test_voc_sets_masks_and_boxes(tmp_path: Path) -> None:
    dataset = Folder(root=devkit(tmp_path, 20))
    assert dataset.detect_layout() == "voc"
    assert dataset.classes[7] == "cat"
    assert sizes(dataset) == {"train": 9, "val": 1, "test": 10}
    records = all_of(dataset)
    assert records["2007_000001"].masks == tuple(
        MaskFile(tmp_path / "SegmentationClass/2007_000001.png", (target + 1,), target) for target in (7, 11)
    )
    assert records["2007_000011"].boxes == (Box(0, 0, 8, 8, 7), Box(8, 8, 32, 24, 11))
    assert records["2007_000011"].size == (32, 24)


def test_voc_of_other_classes_and_without_sets(tmp_path: Path) -> None:
    for i in range(10):
        picture(tmp_path / f"JPEGImages/{i}.jpg")
        voc(tmp_path / f"Annotations/{i}.xml", (("nut", "bolt")[i % 2], 1, 1, 4, 4))
    dataset = Folder(root=tmp_path)
    assert dataset.classes == ("bolt", "nut")
    assert sizes(dataset) == {"train": 7, "val": 1, "test": 2}


def test_voc_files_without_partner_are_said(tmp_path: Path) -> None:
    root = devkit(tmp_path)
    picture(root / "JPEGImages/extra.jpg")
    voc(root / "Annotations/lost.xml", ("cat", 1, 1, 2, 2))
    picture(root / "JPEGImages/unlisted.jpg")
    voc(root / "Annotations/unlisted.xml", ("cat", 1, 1, 2, 2))
    picture(root / "JPEGImages/broken.jpg")
    write(root / "Annotations/broken.xml", "<annotation><object>")
    findings = {(f.kind, f.where) for f in Folder(root=root).findings}
    assert findings >= {
        ("image without label", "extra.jpg"), ("label without image", "Annotations/lost.xml"),
        ("image in no set", "unlisted.jpg"), ("unreadable annotation", "broken.xml"),
        ("image without label", "broken.jpg"),
    }  # fmt: skip


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><object><name>&b;</name></object></annotation>"
)
OUTSIDE = (
    '<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/hostname">]><annotation><object><name>&a;</name></object></annotation>'
)


@pytest.mark.parametrize("text", [BOMB, OUTSIDE])
def test_nothing_in_xml_is_expanded_or_fetched(tmp_path: Path, text: str) -> None:
    root = devkit(tmp_path)
    write(root / "Annotations/2007_000000.xml", text)
    assert "unreadable annotation" in kinds(Folder(root=root))


# Real data


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
def test_real_pets(tmp_path: Path) -> None:
    unpack(DATA / "pets600.tar", tmp_path)
    dataset = Folder(root=tmp_path / "pets600", mask_values=(1,), image_size=32, train=20, test=20)
    assert dataset.classes == ("Abyssinian", "american_bulldog", "Bengal")
    assert sum(sizes(dataset).values()) == 599
    assert [(f.kind, f.where) for f in dataset.findings] == [("image without label", "images/Abyssinian_34.jpg")]
    part = dataset.load("test").take(np.arange(20))
    assert len(part) == 20
    assert 0.05 < part.masks.mean() < 0.7


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
def test_real_tiny_imagenet(tmp_path: Path) -> None:
    unpack(DATA / "tinyimagenet20.tar", tmp_path)
    dataset = Folder(root=tmp_path / "tinyimagenet20", inclusive=True, image_size=64)
    assert sizes(dataset) == {"train": 9000, "val": 1000, "test": 1000}
    assert len(dataset.classes) == 20
    assert dataset.classes[0].startswith("goldfish")
    assert not dataset.findings

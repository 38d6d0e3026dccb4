"""ImageNet's layouts, read from tiny copies of each and from real photographs where there are some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import (
    GOLDFISH,
    SHARK,
    TENCH,
    imagenet_folders,
    imagenet_kaggle,
    picture,
    tiny_imagenet,
    voc,
    write,
)
from helpers.shared import SHARED
from PIL import Image

from interp_core.datasets import Box, ImageNet, MaskFile, Record
from interp_core.datasets.imagenet.dataset import class_names
from interp_core.datasets.imagenet.layouts import imagenet1k_wnids
from interp_core.errors import InterpError

SLICE = SHARED / "data" / "imagenet_slice"


def kinds(dataset: ImageNet) -> list[str]:
    return [finding.kind for finding in dataset.findings]


def by_stem(dataset: ImageNet, split: str) -> dict[str, Record]:
    return {record.path.stem: record for record in dataset.checked_index.records[split]}  # type: ignore[index]


def test_classes_are_those_of_imagenet_in_its_order() -> None:
    wnids = imagenet1k_wnids()
    assert (len(wnids), wnids[0], wnids[1], wnids[999]) == (1000, TENCH, GOLDFISH, "n15075141")
    names = class_names(wnids)
    assert len(set(names)) == 1000
    assert names[:2] == ("tench", "goldfish")
    # Two classes share a name, and two the first word of theirs.
    assert names[134] == "crane (n02012849)"
    assert names[517] == "crane (n03126707)"
    assert {names[638], names[639]} == {"maillot", "maillot, tank suit"}


@pytest.mark.slow
@pytest.mark.parametrize("boxes", ["auto", "xml", "csv", "none"])
def test_kaggle_layout(tmp_path: Path, boxes: str) -> None:
    dataset = ImageNet(root=imagenet_kaggle(tmp_path, count=10), boxes=boxes)
    records = dataset.checked_index.records
    assert {split: len(members) for split, members in records.items()} == {"train": 18, "val": 2, "test": 20}
    assert {record.targets for record in records["val"]} == {(0,), (1,)}
    first = by_stem(dataset, "test")["ILSVRC2012_val_00000001"]
    assert first.id == "imagenet/ILSVRC2012_val_00000001"
    assert first.targets == (0,)
    assert first.boxes == (() if boxes == "none" else (Box(2, 3, 20, 22),))
    assert first.size == ((32, 24) if boxes in ("auto", "xml") else None)
    train = by_stem(dataset, "train") | by_stem(dataset, "val")
    assert train[f"{GOLDFISH}_3"].boxes == (() if boxes in ("none", "xml") else (Box(1, 1, 9, 9),))
    assert not dataset.findings


def test_flat_validation_images_get_their_classes_from_boxes_where_the_table_is_missing(tmp_path: Path) -> None:
    root = imagenet_kaggle(tmp_path)
    table = (root / "LOC_val_solution.csv").rename(root / "elsewhere.csv")
    expected = {line.split(",")[0]: line.split(",")[1].split()[0] for line in table.read_text().splitlines()[1:]}
    records = by_stem(ImageNet(root=root), "test")
    assert {stem: imagenet1k_wnids()[record.targets[0]] for stem, record in records.items()} == expected


def test_flat_validation_images_without_any_labels_name_what_is_missing(tmp_path: Path) -> None:
    root = imagenet_kaggle(tmp_path, xml=False)
    (root / "LOC_val_solution.csv").unlink()
    with pytest.raises(InterpError, match=r"lacks LOC_val_solution\.csv.*Kaggle's page"):
        _ = ImageNet(root=root).checked_index


def test_labels_without_image_and_images_without_label(tmp_path: Path) -> None:
    root = imagenet_kaggle(tmp_path)
    (root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG").unlink()
    picture(root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00049999.JPEG")
    dataset = ImageNet(root=root)
    assert len(dataset.checked_index.records["test"]) == 7
    findings = {(finding.kind, finding.where) for finding in dataset.findings}
    assert ("image without label", "ILSVRC2012_val_00049999.JPEG") in findings
    assert ("label without image", "LOC_val_solution.csv") in findings


def test_class_folders_as_imagenette_has_them(tmp_path: Path) -> None:
    dataset = ImageNet(root=imagenet_folders(tmp_path, (TENCH, SHARK), count=10))
    assert {split: len(members) for split, members in dataset.checked_index.records.items()} == {
        "train": 18,
        "val": 2,
        "test": 20,
    }
    assert {record.targets[0] for record in dataset.checked_index.records["test"]} == {0, 2}
    assert len(dataset.classes) == 1000
    own = ImageNet(root=tmp_path, labels="own")
    assert own.classes == ("tench", "great white shark")
    assert {record.targets[0] for record in own.checked_index.records["test"]} == {0, 1}


def test_the_same_images_validate_for_a_seed_wherever_they_lie(tmp_path: Path) -> None:
    parts = [
        [
            record.id
            for record in ImageNet(root=imagenet_folders(tmp_path / name, count=10), seed=3).checked_index.records[
                "val"
            ]
        ]
        for name in ("a", "b")
    ]
    other = ImageNet(root=tmp_path / "a", seed=4).checked_index.records["val"]
    assert parts[0] == parts[1] != [record.id for record in other]


@pytest.mark.slow
def test_boxes_of_a_resized_image_refer_to_the_size_that_the_file_says(tmp_path: Path) -> None:
    root = tmp_path
    path = picture(root / "val" / TENCH / "a.JPEG", (32, 24))
    voc(root / "Annotations/val/a.xml", (TENCH, 0, 0, 160, 240), size=(320, 240))
    dataset = ImageNet(root=root, image_size=24, resize="squash")
    (record,) = dataset.checked_index.records["test"]
    assert (record.path, record.size, record.boxes) == (path, (320, 240), (Box(0, 0, 160, 240),))
    covered = dataset.load("test").take(np.array([0])).masks[0, 0]
    np.testing.assert_array_equal(covered.all(0), np.arange(24) < 12)


def test_boxes_of_other_classes_are_left_out_and_said(tmp_path: Path) -> None:
    picture(tmp_path / "val" / TENCH / "a.JPEG")
    voc(tmp_path / "Annotations/val/a.xml", (TENCH, 1, 1, 5, 5), (SHARK, 6, 6, 9, 9))
    dataset = ImageNet(root=tmp_path)
    assert dataset.checked_index.records["test"][0].boxes == (Box(1, 1, 5, 5),)
    assert kinds(dataset) == ["box"]


def test_tiny_imagenet(tmp_path: Path) -> None:
    dataset = ImageNet(root=tiny_imagenet(tmp_path, count=10))
    assert {split: len(members) for split, members in dataset.checked_index.records.items()} == {
        "train": 18,
        "val": 2,
        "test": 2,
    }
    test = by_stem(dataset, "test")
    assert test["val_1"].targets == (2,)
    assert test["val_1"].boxes == (Box(1, 2, 31, 41),)
    assert by_stem(dataset, "train")[f"{GOLDFISH}_1"].boxes == (Box(0, 10, 64, 59),)
    assert not dataset.findings


def test_imagenet_v2_names_its_folders_by_index(tmp_path: Path) -> None:
    for index in (0, 2, 11):
        picture(tmp_path / "imagenetv2-matched-frequency-format-val" / str(index) / f"{index}abc.jpeg")
    dataset = ImageNet(root=tmp_path)
    assert sorted(record.targets[0] for record in dataset.checked_index.records["test"]) == [0, 2, 11]
    assert not dataset.checked_index.records["train"]


@pytest.mark.slow
def test_imagenet_s_masks_count_before_boxes(tmp_path: Path) -> None:
    root = imagenet_folders(tmp_path, (TENCH, SHARK), count=1)
    voc(root / "Annotations/val" / f"{SHARK}_val_0.xml", (SHARK, 1, 1, 5, 5))
    for place, wnid in enumerate((TENCH, SHARK), 1):
        path = root / "ImageNetS919/validation-segmentation" / wnid / f"{wnid}_val_0.png"
        path.parent.mkdir(parents=True)
        pixels = np.zeros((24, 32, 3), np.uint8)
        pixels[:12] = (place, 0, 0)
        pixels[12:, :16] = (232, 3, 0)  # 1000: not to be judged
        Image.fromarray(pixels).save(path)
    dataset = ImageNet(root=root, image_size=24, resize="squash")
    record = by_stem(dataset, "test")[f"{SHARK}_val_0"]
    assert not record.boxes
    assert record.masks == (MaskFile(path, (2,)),)
    split = dataset.load("test")
    mask = split.take(np.array([split.ids.index(record.id)])).masks[0, 0]
    np.testing.assert_array_equal(mask, np.arange(24)[:, None].repeat(24, 1) < 12)


@pytest.mark.slow
def test_classes_unknown_to_imagenet_are_left_out_and_said(tmp_path: Path) -> None:
    root = imagenet_folders(tmp_path, (TENCH, "n00000001"), count=2)
    dataset = ImageNet(root=root)
    assert len(dataset.checked_index.records["test"]) == 2
    assert [(f.kind, f.where) for f in dataset.findings] == [("unknown class", "n00000001")]
    assert "4 images" in dataset.findings[0].what
    assert ImageNet(root=root, labels="own").classes == ("n00000001", "tench")


@pytest.mark.parametrize("part", ["", "cats"])
def test_a_folder_that_holds_no_imagenet_names_its_files_as_its_page_does(tmp_path: Path, part: str) -> None:
    (tmp_path / part).mkdir(exist_ok=True)
    with pytest.raises(InterpError, match=r"Validation images \(all tasks\)"):
        _ = ImageNet(root=tmp_path).checked_index
    with pytest.raises(InterpError, match=r"is not a folder.*dataset\.root"):
        _ = ImageNet(root=tmp_path / "nowhere").checked_index


def test_a_row_that_is_not_groups_of_five_words_is_said(tmp_path: Path) -> None:
    root = imagenet_kaggle(tmp_path)
    table = root / "LOC_val_solution.csv"
    write(table, table.read_text().replace(f"00000003,{TENCH} 2 3 20 22", f"00000003,{TENCH} 2 3 20 22 {TENCH} 7"))
    dataset = ImageNet(root=root, boxes="csv")
    assert [(f.kind, f.where) for f in dataset.findings] == [("row", "LOC_val_solution.csv, row 3")]
    assert by_stem(dataset, "test")["ILSVRC2012_val_00000003"].boxes == (Box(2, 3, 20, 22),)


@pytest.mark.slow
@pytest.mark.skipif(not SLICE.is_dir(), reason=f"{SLICE} is not there")
@pytest.mark.parametrize("boxes", ["xml", "csv"])
def test_real_photographs(boxes: str) -> None:
    dataset = ImageNet(root=SLICE, boxes=boxes, image_size=64)
    records = dataset.checked_index.records["test"]
    assert len(records) == 40
    assert all(record.boxes for record in records)
    assert {record.targets[0] for record in records} >= {98, 143, 220, 288}
    assert not dataset.findings
    part = dataset.load("test").take(np.arange(40))
    assert len(part) == 40
    assert part.masks.any((1, 2, 3)).all()

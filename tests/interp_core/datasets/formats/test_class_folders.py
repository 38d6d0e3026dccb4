"""Class folders, splits and masks are told apart by their content, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.layouts import class_folders, mask, picture, write

from interp_core.datasets import Folder
from interp_core.errors import InterpError


def counts(dataset: Folder) -> dict[str, int]:
    return {split: len(members) for split, members in dataset.indexed.records.items()}


@pytest.mark.parametrize(
    "names",
    [
        ("bus", "train"), ("control", "test"), ("mask", "no mask"), ("boxes", "bags"), ("labels", "logos"),
        ("images", "paintings"), ("invalid", "val"), ("annotations", "texts"), ("segmentations", "other"),
    ],
)  # fmt: skip
def test_names_of_splits_and_masks_may_be_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    class_folders(tmp_path, names, count=4)
    dataset = Folder(root=tmp_path)
    assert dataset.classes == tuple(sorted(names))
    assert sum(counts(dataset).values()) == 8


def test_they_may_be_classes_inside_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        class_folders(tmp_path, ("masks", "faces"), count=4, split=split)
    dataset = Folder(root=tmp_path)
    assert dataset.classes == ("faces", "masks")
    assert counts(dataset)["test"] == 8


def test_folders_of_splits_alone_are_classes_where_the_configuration_says_so(tmp_path: Path) -> None:
    class_folders(tmp_path, ("test", "train"), count=4)
    with pytest.raises(InterpError, match="layout: classes"):
        _ = Folder(root=tmp_path).classes
    assert Folder(root=tmp_path, layout="classes").classes == ("test", "train")


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("seg_train", "seg_test"), (12, 8, 8)), (("training_set", "test_set"), (12, 8, 8)),
        (("train2017", "val2017"), (12, 8, 8)), (("tr", "dev", "holdout"), (8, 8, 8)),
        (("fold1", "fold2", "fold3"), (8, 8, 8)), (("Train_Images", "TestImages"), (12, 8, 8)),
    ],
)  # fmt: skip
def test_splits_under_usual_words(tmp_path: Path, splits: tuple[str, ...], expected: tuple[int, int, int]) -> None:
    for split in splits:
        class_folders(tmp_path, count=4, split=split)
    dataset = Folder(root=tmp_path)
    assert dataset.classes == ("cat", "dog")
    if len(splits) == 3:
        assert tuple(counts(dataset).values()) == expected
    else:
        assert counts(dataset)["test"] == 8


@pytest.mark.parametrize("above", ["", "data"])
def test_splits_inside_a_folder_around_everything_and_below_classes(tmp_path: Path, above: str) -> None:
    if above:
        for split in ("train", "test"):
            class_folders(tmp_path / above, count=4, split=split)
    else:
        for split in ("train", "test"):
            for name in ("cat", "dog"):
                for i in range(4):
                    picture(tmp_path / name / split / f"{i}.png")
    dataset = Folder(root=tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert counts(dataset)["test"] == 8


def test_masks_in_the_folder_of_a_split_belong_to_its_images(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for i in range(3):
                picture(tmp_path / split / name / f"{i}.png")
                mask(tmp_path / split / "masks" / name / f"{i}_mask.png")
    dataset = Folder(root=tmp_path)
    records = [record for members in dataset.indexed.records.values() for record in members]
    assert dataset.classes == ("cat", "dog")
    assert len(records) == 12
    assert all(record.masks[0].path.parts[-4] == record.path.parts[-3] for record in records)
    assert not dataset.findings


def test_what_systems_leave_is_no_class_and_no_image(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    picture(tmp_path / "@eaDir" / "cat0.png" / "SYNOPHOTO_THUMB_M.jpg")
    picture(tmp_path / "cat" / "@eaDir" / "cat0.png" / "thumb.jpg")
    picture(tmp_path / ".ipynb_checkpoints" / "cat0-checkpoint.png")
    for name in ("__MACOSX/cat/._cat0.png", "cat/._cat0.png", "cat/Thumbs.db", "cat/desktop.ini", "._dog.png"):
        write(tmp_path / name, "x")
    dataset = Folder(root=tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert sum(counts(dataset).values()) == 8
    assert not dataset.findings


def test_folders_without_images_are_reported(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4)
    (tmp_path / "bird").mkdir()
    write(tmp_path / "fish" / "a.heic", "x")
    assert [(f.kind, f.where) for f in Folder(root=tmp_path).findings] == [
        ("class without image", "bird"), ("class without image", "fish"),
    ]  # fmt: skip


def test_images_beside_splits_are_reported(tmp_path: Path) -> None:
    class_folders(tmp_path, count=4, split="train")
    picture(tmp_path / "more" / "cat" / "1.png")
    assert [(f.kind, f.where) for f in Folder(root=tmp_path).findings] == [("images without split", "more")]


@pytest.mark.parametrize(
    "content", ["[1]", '{"images": 12}', '{"images": "broken', '{"categories": ["a"], "images": []}']
)
def test_json_of_another_kind_costs_nothing(tmp_path: Path, content: str) -> None:
    class_folders(tmp_path, count=4)
    write(tmp_path / "info.json", content)
    write(tmp_path / "run" / "run.json", content)
    dataset = Folder(root=tmp_path)
    assert dataset.detect_layout() == "classes"
    assert sum(counts(dataset).values()) == 8


def test_classes_inside_the_only_folder(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets", count=3)
    dataset = Folder(root=tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert [f.kind for f in dataset.findings] == ["classes inside a folder"]


def test_a_class_named_like_a_split_may_hold_folders(tmp_path: Path) -> None:
    for name in ("train", "bus", "car"):
        picture(tmp_path / name / "day" / "1.png")
    assert Folder(root=tmp_path).classes == ("bus", "car", "train")


def test_masks_beside_their_images_are_no_images(tmp_path: Path) -> None:
    class_folders(tmp_path, count=3)
    mask(tmp_path / "cat" / "cat0_mask.png")
    picture(tmp_path / "dog" / "other_mask.png")
    dataset = Folder(root=tmp_path)
    records = [record for members in dataset.indexed.records.values() for record in members]
    assert len(records) == 7
    assert [record.path.name for record in records if record.masks] == ["cat0.png"]
    assert [f.kind for f in dataset.findings] == ["masks beside images"]


def test_splits_of_images_without_classes_have_no_class(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "1.jpg")
        write(tmp_path / split / "labels" / "1.txt", "0 .5 .5 .2 .2")
    with pytest.raises(InterpError, match="a folder of images for each class"):
        _ = Folder(root=tmp_path).classes


@pytest.mark.parametrize("name", ["boxes.csv", "annotations.csv", "index.csv"])
@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "file,annotator\ncat/cat0.png,me\n", '{"a": 1}'])
def test_tables_of_another_kind_cost_nothing(tmp_path: Path, name: str, content: str) -> None:
    class_folders(tmp_path, count=3)
    write(tmp_path / name, content)
    dataset = Folder(root=tmp_path)
    assert (dataset.classes, sum(counts(dataset).values())) == (("cat", "dog"), 6)
    assert [f.kind for f in dataset.findings] == ["table not used"]


@pytest.mark.parametrize("name", ["1.png", "other.png", "annotations/deep/1.png"])
def test_no_image_vanishes_without_a_finding(tmp_path: Path, name: str) -> None:
    class_folders(tmp_path / "images", count=3, split="train")
    picture(tmp_path / name)
    dataset = Folder(root=tmp_path)
    assert sum(counts(dataset).values()) == 6
    assert [finding.where for finding in dataset.findings] == [name]

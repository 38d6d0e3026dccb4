"""RSNA's challenge, from tiny copies of its layout and from real X-rays where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import dicom, rsna, write
from helpers.shared import SHARED

from interp_core.datasets import Box, Record, Rsna
from interp_core.errors import InterpError

DATA = SHARED / "data"
TABLE = "stage_2_train_labels.csv"


def all_of(dataset: Rsna) -> dict[str, Record]:
    return {record.path.stem: record for records in dataset.checked_index.records.values() for record in records}


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".dcm", ".png"])
def test_labels_boxes_and_splits(tmp_path: Path, ending: str) -> None:
    dataset = Rsna(root=rsna(tmp_path, 30, ending))
    assert dataset.classes == ("No Lung Opacity", "Lung Opacity")
    records = dataset.checked_index.records
    assert {split: len(members) for split, members in records.items()} == {"train": 21, "val": 3, "test": 6}
    positive = {split: sum(record.targets[0] for record in part) for split, part in records.items()}
    assert positive == {"train": 7, "val": 1, "test": 2}
    assert all_of(dataset)["p003"].boxes == (Box(2, 3, 12, 8, 1), Box(16, 3.5, 24, 13.5, 1))
    assert not all_of(dataset)["p004"].boxes
    assert not dataset.findings
    part = dataset.load("test").take(np.arange(6))
    assert (part.masks.any((1, 2, 3)) == (part.targets == 1)).all()


def test_no_patient_is_named_in_what_results_show(tmp_path: Path) -> None:
    dataset = Rsna(root=rsna(tmp_path, 12), salt="pepper")
    ids = dataset.load("train").ids
    assert len(set(ids)) == len(ids)
    assert not [name for name in ids if "p0" in name]
    assert ids != Rsna(root=tmp_path, salt="salt").load("train").ids
    assert Rsna(root=tmp_path, hash_ids=False).load("train").ids[0].startswith("rsna/p0")


def test_three_classes(tmp_path: Path) -> None:
    dataset = Rsna(root=rsna(tmp_path, 9), labels="three")
    assert dataset.classes == ("Normal", "Lung Opacity", "No Lung Opacity / Not Normal")
    assert [all_of(dataset)[f"p{i:03d}"].targets[0] for i in range(6)] == [1, 0, 2, 1, 2, 0]


def test_the_division_is_fixed_by_the_seed_and_not_by_the_order_of_the_table(tmp_path: Path) -> None:
    root = rsna(tmp_path, 30)
    first = {split: {r.id for r in part} for split, part in Rsna(root=root).checked_index.records.items()}
    header, *rows = (root / TABLE).read_text().splitlines()
    write(root / TABLE, "\n".join([header, *reversed(rows)]))
    again = {split: {r.id for r in part} for split, part in Rsna(root=root).checked_index.records.items()}
    other = {split: {r.id for r in part} for split, part in Rsna(root=root, seed=1).checked_index.records.items()}
    assert first == again != other


def test_boxes_of_exports_may_refer_to_the_original(tmp_path: Path) -> None:
    record = all_of(Rsna(root=rsna(tmp_path, 4, ".png"), boxes_refer_to=20))["p003"]
    assert record.size == (20, 20)
    assert record.boxes == (Box(2, 3, 12, 8, 1), Box(16, 3.5, 20, 13.5, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "kind", "positive", "boxes"),
    [
        ("p001,2,3,4,5,0", "box", False, 0),
        ("p001,,,,,1", "label without box", True, 0),
        ("p001,2,3,-4,5,1", "box inverted", True, 1),
        ("p001,-2,3,4,5,1", "box outside", True, 1),
        ("p001,-9,3,4,5,1", "box outside", True, 0),
        ("p001,2,3,0,5,1", "box empty", True, 0),
        ("p001,2,three,4,5,1", "box", True, 0),
        ("p001,2,3,4,5,2", "bad label", False, 0),
        ("p001,2,3,4,5,", "bad label", False, 0),
        ("p001,2,3,4,5,1,9,9", "row", True, 1),
        ("p999,2,3,4,5,1", "label without image", False, 0),
        ("p001,,,,,0", "duplicate row", False, 0),
    ],
)
def test_rows_that_do_not_fit_are_said(tmp_path: Path, row: str, kind: str, positive: bool, boxes: int) -> None:
    root = rsna(tmp_path, 6)
    write(root / TABLE, (root / TABLE).read_text() + row + "\n")
    (root / "stage_2_detailed_class_info.csv").unlink()
    dataset = Rsna(root=root)
    assert kind in [finding.kind for finding in dataset.findings]
    assert len(all_of(dataset)) == 6
    assert all_of(dataset)["p001"].targets == (int(positive),)
    assert len(all_of(dataset)["p001"].boxes) == boxes


def test_images_and_tables_that_are_missing_are_called_as_on_the_page(tmp_path: Path) -> None:
    root = rsna(tmp_path, 6)
    dicom(root / "stage_2_train_images" / "p100.dcm")
    assert [finding.kind for finding in Rsna(root=root).findings] == ["image without label"]
    (root / TABLE).rename(root / "labels.csv")
    with pytest.raises(InterpError, match=r"lacks stage_2_train_labels\.csv.*page at Kaggle"):
        _ = Rsna(root=root).checked_index
    write(root / TABLE, "patientId,x,y\np001,1,2\n")
    with pytest.raises(InterpError, match=r"lacks the column width, height, Target; it has patientid, x, y"):
        _ = Rsna(root=root).checked_index


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
@pytest.mark.parametrize(("name", "images", "positive"), [("rsna_mini64", 247, 65), ("rsna_mini1024", 14, 1)])
def test_real_x_rays(name: str, images: int, positive: int) -> None:
    dataset = Rsna(root=DATA / name, image_size=32)
    records = all_of(dataset)
    assert len(records) == images
    assert sum(record.targets[0] for record in records.values()) == positive
    assert not dataset.findings
    split = dataset.load("test")
    part = split.take(np.arange(len(split)))
    assert len(part) == len(split)
    assert (part.masks.any((1, 2, 3)) == (part.targets == 1)).all()

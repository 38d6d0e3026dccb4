"""Images, labels and facts of the trained networks' studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.layouts import mask, picture

from benchmarks.studies.trained.data import ATTRIBUTES, load_collars, load_faces, load_radiographs
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow
KERMANY, NIH, JOURNALS = "kermany", "nih_covid_muhammedtalo", "ieee8023_lungbox"
ROWS = [
    *[(KERMANY, "NORMAL")] * 4, *[(KERMANY, "PNEUMONIA virus")] * 2, (NIH, "No finding"), (NIH, "COVID-19"),
    (JOURNALS, "COVID-19"), (JOURNALS, "todo"),
]  # fmt: skip


@pytest.fixture
def chest(tmp_path: Path) -> Path:
    rows = []
    for number, (source, label) in enumerate(ROWS):
        picture(tmp_path / f"{number}.png", (32, 24), seed=number)
        rows.append({
            "file": f"{number}.png", "source": source, "label": label, "view": "PA" if number % 2 else None,
            "original_width": 100 + number, "original_height": 90, "original_mode": "L",
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    lungs = {"file": ["8.png", "8.png"], "xmin": [0, 24], "ymin": [0, 0], "xmax": [8, 32], "ymax": [24, 12]}
    pd.DataFrame(lungs).to_csv(tmp_path / "lung_boxes.csv", index=False)
    return tmp_path


def test_radiographs_of_one_source(chest: Path) -> None:
    labelled = load_radiographs(chest, 16, 3)
    assert labelled.table["group"].value_counts().to_dict() == {"kermany, normal": 3, "kermany, pneumonia": 2}
    assert labelled.images.targets.tolist() == labelled.table["label"].tolist()
    assert not labelled.images.take(np.arange(5)).masks.any()
    assert {len(values) for values in labelled.metadata.values()} == {5}
    assert set(labelled.metadata["view"]) <= {"PA", "unknown"}


def test_covid_is_pneumonia_from_journals_and_lungs_are_objects(chest: Path) -> None:
    labelled = load_radiographs(chest, 16, 10, ("kermany", "nih", "journals"))
    assert labelled.table["file"].tolist() == [f"{number}.png" for number in range(9)]
    assert labelled.table["group"].tolist()[6:] == ["nih, normal", "journals, pneumonia", "journals, pneumonia"]
    masks = labelled.images.take(np.arange(9)).masks
    assert not masks[:8].any()
    assert masks[8, 0].mean() == pytest.approx(3 / 8)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    rows = []
    for number in range(20):
        picture(tmp_path / f"{number}.png", seed=number)
        values = dict.fromkeys(ATTRIBUTES, -1) | {
            "Male": 1 if number % 2 else -1,
            "Blond_Hair": 1 if number < 4 else -1,
        }
        collar = f"c{number}.png" if number < 2 else ""
        rows.append({"file": f"{number}.png", "random_sample": int(number != 1), "collar_mask": collar, **values})
    for number in range(2):
        mask(tmp_path / f"c{number}.png")
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    return tmp_path


def test_all_blond_men_of_the_sample_are_among_few_faces(faces: Path) -> None:
    labelled = load_faces(faces, 16, "Male", 6)
    assert len(labelled.images) == 6
    assert labelled.table.query("group == 'blond, male'")["file"].tolist() == ["3.png"]
    assert labelled.images.targets.tolist() == (labelled.table["Male"] == 1).astype(int).tolist()
    assert "Male" not in labelled.metadata
    assert "Blond_Hair" in labelled.metadata


def test_collars_are_masks(faces: Path) -> None:
    images, collars = load_collars(faces, 16)
    assert images.ids == ["0.png", "1.png"]
    assert collars[:, :, :, :8].all()
    assert not collars[:, :, :, 8:].any()


def test_a_folder_without_its_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="give the folder"):
        load_faces(tmp_path, 16, "Male", 6)

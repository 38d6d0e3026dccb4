"""Region by landmarks on files as CelebA ships them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.layouts import celeba

from benchmarks.studies import faces
from interp_core.datasets import datasets
from interp_core.training import Recipe

pytestmark = pytest.mark.slow

SHORT = Recipe(epochs=12, batch_size=4, learning_rate=3e-3, shift=0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return celeba(tmp_path / "celeba", 36)


def test_regions_are_the_landmarks_boxes_of_images_that_show_the_attribute(root: Path) -> None:
    dataset = datasets["celeba"](root=root, image_size=64, resize="pad", workers=0)
    regions, split = faces.regions_of(dataset, "train"), dataset.load("train")
    assert set(regions) == {"Eyeglasses", "Smiling", "Wearing_Earrings"}  # Blurry has no place on a face
    for name, (indices, masks) in regions.items():
        assert masks.shape == (len(indices), 1, 64, 64)
        rows = split.targets[:, dataset.classes.index(name)].nonzero()[0].tolist()
        assert sorted(indices.tolist()) == rows
    eyes, mouth = (regions[name][1][0, 0].nonzero().float().mean(0) for name in ("Eyeglasses", "Smiling"))
    assert eyes[0] < mouth[0]
    # both lie around the face's middle, which the made landmarks put at column 87 of 178 of 218
    assert eyes[1].item() == pytest.approx(mouth[1].item(), abs=1.5)


def test_told_of_the_landmarks_evidence_moves_into_them(root: Path) -> None:
    table, examples = faces.compare_arms(root, 32, SHORT, ("Eyeglasses", "Smiling"))
    means = table.groupby(["arm", "part"])["inside"].mean()
    for split in ("train", "test"):
        assert means["labels and landmarks", split] > 1.2 * means["labels", split]
    assert means["labels and landmarks", "train"] > 1.2 * table["area"].mean()
    assert {name for _, name in examples} == {"Eyeglasses", "Smiling"}


def test_command_writes_table_page_and_figure(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paths = faces.run(root, ["Smiling"], 32, 1, out)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in paths)
    assert set(pd.read_csv(out / "faces.csv")["arm"]) == {"labels", "labels and landmarks"}
    assert "nothing about faces" in (out / "faces.md").read_text()
    assert (out / "faces_maps.png").stat().st_size > 1000


def test_a_stopped_study_trains_no_arm_twice(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, measure_shares = tmp_path / "out", faces.measure_shares
    options = {"attributes": ["Smiling"], "size": 32, "epochs": 1, "output": out}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(faces, "measure_shares", stop)
    with pytest.raises(KeyboardInterrupt):
        faces.run(root, **options)  # type: ignore[arg-type]
    fit, resumed = faces.fit, []

    def note(*arguments: Any, **settings: Any) -> Any:
        resumed.append(settings["checkpoint"].is_file())
        return fit(*arguments, **settings)

    monkeypatch.setattr(faces, "measure_shares", measure_shares)
    monkeypatch.setattr(faces, "fit", note)
    paths = faces.run(root, **options)  # type: ignore[arg-type]
    assert resumed == [True, False]
    assert set(out.iterdir()) == set(paths)


def test_terms_name_class_and_region_alike() -> None:
    regions = {"Smiling": (torch.tensor([0]), torch.ones(1, 1, 4, 4, dtype=torch.bool))}
    (term,) = faces.terms_of(regions, 2.0)
    assert (term.of, term.needs(), term.weight) == ("Smiling", ("Smiling",), 2.0)

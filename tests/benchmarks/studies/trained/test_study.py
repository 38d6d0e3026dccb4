"""A trained network is diagnosed once, and its findings and groups become rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.cue_nets import SIDE, colour_net, cue_images
from helpers.diagnoses import diagnosis
from PIL import Image

from benchmarks.studies.trained import study
from benchmarks.studies.trained.data import load_radiographs
from benchmarks.studies.trained.study import Case, describe, run, summarise

pytestmark = pytest.mark.slow


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A network that decides by a red cue, on images that a table lists as radiographs."""
    images, _ = cue_images(80, share=0.4)
    rows = []
    for number, (pixels, target) in enumerate(zip(images.images, images.targets, strict=True)):
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(tmp_path / f"{number}.png")
        rows.append({
            "file": f"{number}.png", "source": "kermany", "label": "PNEUMONIA virus" if target else "NORMAL",
            "view": "PA", "original_width": 9, "original_height": 9, "original_mode": "L",
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    pd.DataFrame(columns=["file", "xmin", "ymin", "xmax", "ymax"]).to_csv(tmp_path / "lung_boxes.csv", index=False)
    (tmp_path / "weights").write_bytes(b"none")
    return Case(
        "red, once", ("normal", "pneumonia"), ((0.0,) * 3, (1.0,) * 3), lambda _: colour_net(green=1.0, red=2.0),
        tmp_path / "weights", lambda root: load_radiographs(root, SIDE, 80), tmp_path,
    )  # fmt: skip


def test_a_network_is_diagnosed_once(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "cases", lambda *paths: [case])

    def run_again() -> list[Path]:
        return run(tmp_path, tmp_path, case.weights, case.weights, tmp_path / "out", work=tmp_path / "work")

    paths = run_again()
    findings, groups = (pd.read_csv(path) for path in paths[:2])
    first = findings.iloc[0]
    assert (first["network"], first["verdict"]) == ("red, once", "cause")
    assert first["low"] <= first["difference"] <= first["high"]
    assert first["flips"] > first["control flips"]
    assert groups["images"].sum() == 80
    assert (groups["accuracy"] > 0.9).all()
    monkeypatch.setattr(study, "diagnose_case", lambda *_: pytest.fail("diagnosed again"))
    assert run_again() == paths
    assert all(path.suffix != ".png" for path in (tmp_path / "out").rglob("*"))


def test_a_finding_is_a_row_by_the_intervention_that_decides() -> None:
    cause, shifted, _ = diagnosis().findings
    row = describe("net", cause, 0.5)
    assert (row["action"], row["difference"], row["collar overlap"]) == ("add", pytest.approx(0.40), 0.5)
    assert (row["verdict"], row["n"]) == ("cause", 40)
    assert describe("net", shifted)["action"] == "shift"
    assert "action" not in describe("net", cause.model_copy(update={"effects": ()}))


def test_unreadable_images_do_not_count() -> None:
    row = summarise("net", "group", np.array([1.0, 0.0, np.nan, 1.0]))
    assert (row["images"], row["accuracy"]) == (3, pytest.approx(2 / 3))
    assert row["low"] <= row["accuracy"] <= row["high"]

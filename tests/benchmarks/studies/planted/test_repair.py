from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.studies.planted import guided_rivals, repair
from benchmarks.studies.planted import setting as settings_module
from benchmarks.studies.planted.repair import judge, judging_images
from benchmarks.studies.planted.repair_report import repair_table
from benchmarks.studies.planted.repair_rivals import REPAIR_RIVALS
from benchmarks.studies.planted.setting import Setting, subject_of, train_network

pytestmark = pytest.mark.slow
SETTING = Setting("tag", "planted", 0.9, "all", 1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(settings_module, "COUNTS", {"train": 240, "val": 160, "test": 80})
    monkeypatch.setattr(settings_module, "RECIPE", {"epochs": 1, "batch_size": 32, "shift": 0})
    monkeypatch.setattr(guided_rivals, "EPOCHS", 1)
    settings_module.digits.cache_clear()
    settings_module.statistics.cache_clear()
    yield
    settings_module.digits.cache_clear()
    settings_module.statistics.cache_clear()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", sorted(REPAIR_RIVALS))
def test_a_rival_repairs_a_copy(name: str) -> None:
    subject = subject_of(train_network(SETTING))
    before = {key: value.clone() for key, value in subject.lap.state_dict().items()}
    train, val = (SETTING.images(split, diagnosed=True) for split in ("train", "val"))
    repaired = REPAIR_RIVALS[name](subject, train, val, SETTING)
    assert all(torch.equal(value, before[key]) for key, value in subject.lap.state_dict().items())
    pixels = val.images.images[:4]
    assert bool(repaired.predict(pixels).isfinite().all())
    assert not torch.equal(repaired.predict(pixels), subject.predict(pixels))


@pytest.mark.usefixtures("tiny")
def test_judging_images_have_both_groups_and_the_worst_is_the_lower() -> None:
    planted = judging_images(SETTING)
    assert 0.3 < planted.conflicts.mean() < 0.7
    scores = judge(subject_of(train_network(SETTING)), planted)
    assert scores["worst"] == min(scores["agree"], scores["conflict"])


@pytest.mark.usefixtures("tiny")
def test_a_stopped_study_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "TOLD_FINDINGS", ("amend",))
    monkeypatch.setattr(repair, "REPAIR_RIVALS", {"AFR": REPAIR_RIVALS["AFR"]})
    for name in repair.OPTIONS:
        monkeypatch.setitem(repair.OPTIONS, name, {})
    paths = repair.run(tmp_path, causes=("tag",), agreements=(0.9,), seeds=(1,))
    first = pd.read_csv(tmp_path / "repairs.csv")
    assert {"before", "never saw it", "AFR"} <= set(first["repair"])
    assert all(path.exists() for path in paths)


def test_the_distance_is_to_the_reference_of_the_same_network() -> None:
    rows = pd.DataFrame([
        {"cause": "tag", "agreement": 0.9, "seed": seed, "repair": name, "worst": worst, "agree": 1.0, "seconds": 1.0}
        for seed, values in ((0, (0.9, 0.5)), (1, (0.7, 0.6)))
        for name, worst in zip(("never saw it", "amend"), values, strict=True)
    ])  # fmt: skip
    table = repair_table(rows).set_index("repair")
    assert table.loc["amend", "points below the reference"] == pytest.approx(25)
    assert table.loc["amend", "largest gap"] == pytest.approx(40)
    assert np.isclose(float(table["networks"].max()), 2)

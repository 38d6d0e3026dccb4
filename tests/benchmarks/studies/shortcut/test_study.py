"""The shortcut study from training to table, stopped and continued."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.studies.shortcut import study
from benchmarks.studies.shortcut.arms import ARMS, ShortcutArm
from benchmarks.studies.shortcut.data import (
    TaggedData,
)
from interp_core.errors import UnknownNameError
from interp_core.training import Recipe

pytestmark = pytest.mark.slow


SHORT = Recipe(epochs=1, batch_size=8, shift=0)


def test_an_arm_that_finds_is_told_of_all_images_what_it_found(forms: tuple[TaggedData, TaggedData]) -> None:
    arm = next(arm for arm in ARMS if arm.name == "lap_exchange_found")
    images, regions, scores = study.detect_regions(arm, forms[0], SHORT, 0)
    rows, masks = regions["irrelevant"]
    assert torch.equal(rows, torch.arange(len(images)))
    assert masks.shape == (len(images), 1, 64, 64)
    assert set(scores) == {"found_iou", "found_recall"}


def test_a_stopped_run_goes_on(
    tmp_path: Path, forms: tuple[TaggedData, TaggedData], few: list[ShortcutArm], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control_digits.csv"
    first = study.train_arms(SHORT, "digits", study.Forms(*forms), few[:1], [0], path)
    row = first.iloc[0].to_dict()
    monkeypatch.setattr(study, "train_and_evaluate", lambda arm, *_: {**row, "arm": arm.name})
    both = study.train_arms(SHORT, "digits", study.Forms(*forms), few, [0], path)
    assert list(both.arm) == [arm.name for arm in few]
    assert list(pd.read_csv(path).seed) == [0, 0, 0]


def test_an_unknown_arm_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="lapp"):
        study.run(names=["lapp"], output=tmp_path)

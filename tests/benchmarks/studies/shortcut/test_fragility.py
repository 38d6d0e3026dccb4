"""The comparison of LAP without knowledge with its plain twin."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.studies.shortcut import fragility, study
from benchmarks.studies.shortcut.arms import LABEL_TERMS, ShortcutArm
from benchmarks.studies.shortcut.data import TaggedData
from interp_core.errors import StoreError
from interp_core.training import Recipe


def example_rows() -> pd.DataFrame:
    accuracies = {"plain_clean": (0.9, 0.8), "lap_clean": (0.9, 0.9), "plain": (0.5, 0.3), "lap": (0.6, 0.2)}
    lines = [
        {"data": "digits", "arm": arm, "seed": seed, "accuracy": accuracy, "accuracy_clean": accuracy / 2,
         "follows": 0.1, "tag_area": 1 / 64, "tag_map": 0.5}
        for arm, both in accuracies.items()
        for seed, accuracy in enumerate(both)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def cells_of(table: str, title: str) -> list[str]:
    rows = [row.strip("| ").split(" | ") for row in table.splitlines() if row.startswith("| ")]
    return next(row for row in rows if row[0] == title)


def test_each_arm_is_compared_with_its_twin_in_pairs() -> None:
    table = fragility.to_markdown(example_rows())
    lap, clean = cells_of(table, "LAP, no terms"), cells_of(table, "LAP, trained without tags")
    assert lap[1:3] == ["2", "Plain"]
    assert lap[4] == "+0.0 ± 127.1"  # +10 and -10 points: 12.706 * sqrt(200) / sqrt(2)
    assert clean[2] == "Plain, trained without tags"
    assert (clean[4], clean[6]) == ("+5.0 ± 63.5", "+2.5 ± 31.8")
    assert cells_of(table, "Plain")[2].strip() == ""


def test_arms_differ_in_what_they_compare_alone() -> None:
    arms = {arm.name: arm for arm in fragility.FRAGILITY_ARMS}
    assert len(arms) == len(fragility.FRAGILITY_ARMS)
    assert {name for name, arm in arms.items() if arm.attention_gradient} == {
        "lap_through",
        "lap_labels_through",
    }
    assert {name for name, arm in arms.items() if arm.terms == LABEL_TERMS} == {"lap_labels", "lap_labels_through"}
    assert [name for name, arm in arms.items() if arm.terms == fragility.FIT_TERMS] == ["lap_default"]
    assert set(fragility.TWINS.values()) <= set(fragility.REFERENCES) <= set(arms)


def test_rows_must_exist_for_a_table(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="train first"):
        fragility.run(output=tmp_path, report_only=True)


@pytest.mark.slow
def test_the_rule_of_an_arm_reaches_the_training(
    forms: tuple[TaggedData, TaggedData], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes: list[Recipe] = []
    monkeypatch.setattr(study, "fit", lambda *_, recipe, **__: recipes.append(recipe))
    arms: list[ShortcutArm] = study.select_arms(["lap", "lap_through"], fragility.FRAGILITY_ARMS)
    for arm in arms:
        study.train_and_evaluate(arm, forms[0], Recipe(epochs=1), 3)
    assert [(recipe.seed, recipe.attention_gradient) for recipe in recipes] == [(3, False), (3, True)]

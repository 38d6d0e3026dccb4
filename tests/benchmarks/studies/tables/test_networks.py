"""Networks side by side: whose map counts, what is best, and the table a person reads."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.store.record import ExplainerRecord, RunRecord
from benchmarks.studies.tables.networks import compare_networks, select_maps, to_markdown

pytestmark = pytest.mark.slow

COLUMNS = ["model", "explainer", "metric", "seed", "image_id", "value"]
RECORD = RunRecord.model_validate(
    {
        "name": "made",
        "metrics": [
            {"name": "auc", "direction": "higher", "ranked": True},
            {"name": "deletion", "direction": "lower", "ranked": True},
            {"name": "sparseness", "direction": "none", "ranked": True},
            {"name": "morf", "direction": "lower", "ranked": False},
        ],
        "models": [
            {"name": name, "test_accuracy": accuracy, "train_seconds": 10.0, "stages": [{"step_seconds": step}]}
            for name, accuracy, step in (
                ("plain", 0.9, 0.1),
                ("lap", 0.8, 0.12),
                ("lap", 0.9, 0.12),
                ("calm", 0.7, 0.4),
            )
        ],
    }
)


def scores() -> pd.DataFrame:
    """Plain has Grad-CAM alone, calm a map of its own, and lap is judged by LAP on two trainings."""
    lines = [
        ("plain", "grad_cam", 0, 0.5, 0.3),
        ("plain", "random", 0, 1.0, 0.0),
        ("calm", "grad_cam", 0, 0.9, 0.1),
        ("calm", "intrinsic", 0, 0.6, 0.2),
        ("lap", "lap", 0, 0.7, 0.3),
        ("lap", "lap", 1, 0.9, 0.1),
        ("lap", "grad_cam", 0, 0.0, 1.0),
    ]
    rows = [
        (model, explainer, metric, seed, "image", value)
        for model, explainer, seed, auc, deletion in lines
        for metric, value in (("auc", auc), ("deletion", deletion), ("sparseness", 0.5), ("morf", 0.1), ("forwards", 1))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_a_network_is_judged_by_its_own_map() -> None:
    explainers = select_maps(scores()).groupby("model")["explainer"].unique()
    assert {model: list(names) for model, names in explainers.items()} == {
        "plain": ["grad_cam"], "calm": ["intrinsic"], "lap": ["lap"],
    }  # fmt: skip


def test_ranks_are_over_networks_and_ranked_metrics_alone() -> None:
    table = compare_networks(scores(), RECORD)
    assert list(table.index) == ["lap", "calm", "plain"]
    assert table.loc["lap"].to_dict() == {
        "map": "lap", "trainings": 2, "accuracy": pytest.approx(0.85), "step": pytest.approx(1.2),
        "train_seconds": 10.0, "mean_rank": 1.25, "rank_low": 1.0, "rank_high": 1.75, "forwards": 1.0,
        "auc": pytest.approx(0.8), "deletion": pytest.approx(0.2),
    }  # fmt: skip
    assert table["mean_rank"].to_dict() == {"lap": 1.25, "calm": 1.75, "plain": 3.0}


def test_ranks_of_each_seed_are_among_the_trainings_of_that_seed() -> None:
    table = compare_networks(scores(), RECORD)
    assert table.loc["lap", ["rank_low", "rank_high"]].to_list() == [1.0, 1.75]  # alone with seed 1; 1 and 2.5 with 0
    assert table.loc["plain", ["rank_low", "rank_high"]].to_list() == [2.75, 2.75]


def test_the_table_marks_the_best() -> None:
    text = to_markdown(compare_networks(scores(), RECORD), RECORD)
    (line,) = (line for line in text.splitlines() if line.startswith("| lap |"))
    assert "| 85.0% |" in line
    assert "**0.8**" in line
    assert text.count("**") == 2 * 3  # one best AUC, two equal best deletions


def test_maps_have_the_titles_that_the_run_gives_them() -> None:
    record = RECORD.model_copy(update={"explainers": [ExplainerRecord(name="lap", title="LAP refined")]})
    text = to_markdown(compare_networks(scores(), record), record)
    assert "| lap | LAP refined | 2 |" in text
    assert "| calm | intrinsic |" in text

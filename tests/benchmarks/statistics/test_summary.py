from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.runs import METRICS, meta, scores
from helpers.scores import DOWN, UP, constant_rows, long_table

from benchmarks.statistics import (
    COLUMNS,
    PAIRED_COLUMNS,
    RANK_COLUMNS,
    Resampling,
    is_ranked,
    mean_ranks,
    paired_differences,
    rank_means,
    summarise,
)


def ranks_of(table: pd.DataFrame, metric: str) -> dict[str, float]:
    rows = table[table["metric"] == metric]
    return dict(zip(rows["explainer"], rows["rank"], strict=True))


def test_ranks_follow_the_direction() -> None:
    table = summarise(
        long_table([*constant_rows("up", x=0.9, y=0.5, z=0.1), *constant_rows("down", x=0.9, y=0.5, z=0.1)]), [UP, DOWN]
    )
    assert ranks_of(table, "up") == {"x": 1, "y": 2, "z": 3}
    assert ranks_of(table, "down") == {"x": 3, "y": 2, "z": 1}


def test_ties_share_their_average_rank() -> None:
    table = summarise(long_table(constant_rows("up", w=0.9, x=0.5, y=0.5, z=0.1)), [UP])
    assert ranks_of(table, "up") == {"w": 1, "x": 2.5, "y": 2.5, "z": 4}


def test_a_difference_in_the_last_digit_is_a_tie() -> None:
    assert rank_means([0.3, 0.1 + 0.2], "higher").tolist() == [1.5, 1.5]


def test_the_mask_has_no_rank_and_takes_no_place() -> None:
    ranks = ranks_of(summarise(long_table(constant_rows("up", mask=1.0, x=0.5, y=0.6)), [UP]), "up")
    assert np.isnan(ranks["mask"])
    assert (ranks["y"], ranks["x"]) == (1, 2)


@pytest.mark.parametrize(
    "change",
    [{"ranked": False}, {"family": "descriptor"}, {"family": "cost"}, {"direction": "none"}],
    ids=["unranked", "descriptor", "cost", "no direction"],
)
def test_what_is_no_judgement_of_quality_is_not_ranked(change: dict[str, Any]) -> None:
    assert is_ranked(UP)
    table = summarise(long_table(constant_rows("up", x=0.5, y=0.6)), [{**UP, **change}])
    assert table["rank"].isna().all()
    assert table["mean"].tolist() == [0.5, 0.6]


def test_an_undescribed_metric_is_summarised_without_direction_and_rank() -> None:
    row = summarise(long_table(constant_rows("new", x=0.5)), []).iloc[0]
    assert row["direction"] == "none"
    assert np.isnan(row["rank"])


def test_costs_are_known_without_description() -> None:
    table = summarise(long_table(constant_rows("seconds", x=0.5, y=2.0)), [])
    assert set(table["direction"]) == {"lower"}
    assert table["rank"].isna().all()


def test_nan_images_are_left_out_and_an_all_nan_explainer_has_no_rank() -> None:
    rows = [*constant_rows("up", x=0.5, y=np.nan), ("m", "x", "up", 0, "d", np.nan)]
    table = summarise(long_table(rows), [UP]).set_index("explainer")
    assert (table.loc["x", "mean"], table.loc["x", "n"], table.loc["x", "rank"]) == (0.5, 3, 1)
    assert table.loc["y", "n"] == 0
    assert np.isnan(table.loc["y", ["mean", "ci_low", "ci_high", "rank"]].astype(float)).all()


def test_ranks_are_made_within_each_model() -> None:
    rows = [(model, *row[1:]) for model in ("m", "k") for row in constant_rows("up", x=0.5, y=0.6)]
    assert summarise(long_table(rows), [UP])["rank"].tolist() == [2, 1, 2, 1]


@pytest.mark.slow
def test_columns_and_rows_are_exact() -> None:
    table = summarise(scores(images=6), meta()["metrics"], resampling=Resampling(resamples=20))
    expected = ["model", "explainer", "metric", "direction", "mean", "ci_low", "ci_high", "rank", "n"]
    expected += ["seeds", "resampled"]
    assert list(table.columns) == expected == list(COLUMNS)
    assert len(table) == 19 * len(METRICS)
    assert not table.duplicated(["model", "explainer", "metric"]).any()
    assert (table["ci_low"] <= table["mean"] + 1e-12).all()
    assert (table["mean"] <= table["ci_high"] + 1e-12).all()


@pytest.mark.slow
def test_the_order_of_rows_does_not_matter() -> None:
    table = scores(images=5)
    mixed = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        summarise(table, meta()["metrics"], resampling=Resampling(resamples=50)),
        summarise(mixed, meta()["metrics"], resampling=Resampling(resamples=50)),
    )


def test_empty_scores_give_empty_tables() -> None:
    empty = long_table([])
    assert list(summarise(empty, [UP]).columns) == list(COLUMNS)
    assert list(mean_ranks(summarise(empty, [UP])).columns) == list(RANK_COLUMNS)
    assert list(paired_differences(empty, [UP], "x").columns) == list(PAIRED_COLUMNS)

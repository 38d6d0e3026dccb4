from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.runs import METRICS, meta, scores
from helpers.scores import DOWN, SIDE, UP, long_table
from scipy import stats

from benchmarks.statistics import (
    COLUMNS,
    PAIRED_COLUMNS,
    RANK_COLUMNS,
    Resampling,
    bootstrap_ci,
    is_ranked,
    mean_ranks,
    paired_differences,
    per_image,
    rank_means,
    summarise,
)


def means(metric: str, **values: float) -> list[tuple[Any, ...]]:
    return [("m", name, metric, 0, image, value) for name, value in values.items() for image in ("a", "b", "c")]


def ranks_of(table: pd.DataFrame, metric: str) -> dict[str, float]:
    rows = table[table["metric"] == metric]
    return dict(zip(rows["explainer"], rows["rank"], strict=True))


def test_interval_of_equal_values_is_the_value() -> None:
    assert bootstrap_ci([0.3] * 7) == (0.3, 0.3)


def test_interval_is_scipys_percentile_interval() -> None:
    values = np.random.default_rng(3).normal(size=40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert bootstrap_ci(values, Resampling(seed=5)) == pytest.approx((expected.low, expected.high))


def test_interval_agrees_with_the_normal_theory_on_many_values() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert bootstrap_ci(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_interval_widens_with_the_level_and_repeats_with_the_seed() -> None:
    values = np.random.default_rng(1).random(30)
    low, high = bootstrap_ci(values, Resampling(0.9))
    wider = bootstrap_ci(values, Resampling(0.99))
    assert wider[0] < low < values.mean() < high < wider[1]
    assert bootstrap_ci(values, Resampling(0.9)) == (low, high)
    assert bootstrap_ci(values, Resampling(0.9, seed=1)) != (low, high)


def test_interval_drops_nan() -> None:
    values = [0.1, 0.4, np.nan, 0.9, np.nan]
    assert bootstrap_ci(values) == bootstrap_ci([0.1, 0.4, 0.9])


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.nan], [np.nan, np.nan]])
def test_interval_of_fewer_than_two_values_is_nan(values: list[float]) -> None:
    assert np.isnan(bootstrap_ci(values)).all()


def test_seeds_are_averaged_per_image_before_images_are() -> None:
    # image a has two seeds, image b one: the mean over images is not the mean over rows
    table = long_table([("m", "e", "up", 0, "a", 0.0), ("m", "e", "up", 1, "a", 1.0), ("m", "e", "up", 0, "b", 1.0)])
    assert per_image(table)["value"].tolist() == [0.5, 1.0]
    row = summarise(table, [UP]).iloc[0]
    assert (row["mean"], row["n"]) == (0.75, 2)


def test_ranks_follow_the_direction() -> None:
    table = summarise(long_table([*means("up", x=0.9, y=0.5, z=0.1), *means("down", x=0.9, y=0.5, z=0.1)]), [UP, DOWN])
    assert ranks_of(table, "up") == {"x": 1, "y": 2, "z": 3}
    assert ranks_of(table, "down") == {"x": 3, "y": 2, "z": 1}


def test_ties_share_their_average_rank() -> None:
    table = summarise(long_table(means("up", w=0.9, x=0.5, y=0.5, z=0.1)), [UP])
    assert ranks_of(table, "up") == {"w": 1, "x": 2.5, "y": 2.5, "z": 4}


def test_a_difference_in_the_last_digit_is_a_tie() -> None:
    assert rank_means([0.3, 0.1 + 0.2], "higher").tolist() == [1.5, 1.5]


def test_the_mask_has_no_rank_and_takes_no_place() -> None:
    ranks = ranks_of(summarise(long_table(means("up", mask=1.0, x=0.5, y=0.6)), [UP]), "up")
    assert np.isnan(ranks["mask"])
    assert (ranks["y"], ranks["x"]) == (1, 2)


@pytest.mark.parametrize(
    "change",
    [{"ranked": False}, {"family": "descriptor"}, {"family": "cost"}, {"direction": "none"}],
    ids=["unranked", "descriptor", "cost", "no direction"],
)
def test_what_is_no_judgement_of_quality_is_not_ranked(change: dict[str, Any]) -> None:
    assert is_ranked(UP)
    table = summarise(long_table(means("up", x=0.5, y=0.6)), [{**UP, **change}])
    assert table["rank"].isna().all()
    assert table["mean"].tolist() == [0.5, 0.6]


def test_an_undescribed_metric_is_summarised_without_direction_and_rank() -> None:
    row = summarise(long_table(means("new", x=0.5)), []).iloc[0]
    assert row["direction"] == "none"
    assert np.isnan(row["rank"])


def test_costs_are_known_without_description() -> None:
    table = summarise(long_table(means("seconds", x=0.5, y=2.0)), [])
    assert set(table["direction"]) == {"lower"}
    assert table["rank"].isna().all()


def test_nan_images_are_left_out_and_an_all_nan_explainer_has_no_rank() -> None:
    rows = [*means("up", x=0.5, y=np.nan), ("m", "x", "up", 0, "d", np.nan)]
    table = summarise(long_table(rows), [UP]).set_index("explainer")
    assert (table.loc["x", "mean"], table.loc["x", "n"], table.loc["x", "rank"]) == (0.5, 3, 1)
    assert table.loc["y", "n"] == 0
    assert np.isnan(table.loc["y", ["mean", "ci_low", "ci_high", "rank"]].astype(float)).all()


def test_ranks_are_made_within_each_model() -> None:
    rows = [(model, *row[1:]) for model in ("m", "k") for row in means("up", x=0.5, y=0.6)]
    assert summarise(long_table(rows), [UP])["rank"].tolist() == [2, 1, 2, 1]


def test_columns_and_rows_are_exact() -> None:
    table = summarise(scores(images=6), meta()["metrics"], resampling=Resampling(resamples=20))
    expected = ["model", "explainer", "metric", "direction", "mean", "ci_low", "ci_high", "rank", "n"]
    expected += ["seeds", "resampled"]
    assert list(table.columns) == expected == list(COLUMNS)
    assert len(table) == 19 * len(METRICS)
    assert not table.duplicated(["model", "explainer", "metric"]).any()
    assert (table["ci_low"] <= table["mean"] + 1e-12).all()
    assert (table["mean"] <= table["ci_high"] + 1e-12).all()


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


def test_mean_ranks_by_hand() -> None:
    rows = [*means("up", mask=1, x=0.9, y=0.5), *means("down", x=0.9, y=0.5), *means("side", x=0.9, y=0.5)]
    rows += means("third", x=0.9, y=0.5)
    third = {**UP, "name": "third"}
    families = {"up": "localisation", "third": "localisation", "down": "faithfulness", "side": "descriptor"}
    table = mean_ranks(summarise(long_table(rows), [UP, DOWN, SIDE, third]), families)
    assert list(table.columns) == [*RANK_COLUMNS, "faithfulness", "localisation"]
    x, y = (table.set_index("explainer").loc[name] for name in "xy")
    assert x["mean_rank"] == pytest.approx(4 / 3)
    assert (x["best_rank"], x["worst_rank"], x["metrics"], x["contestants"]) == (1, 2, 3, 2)
    assert (x["localisation"], x["faithfulness"], y["localisation"]) == (1, 2, 2)
    assert table["explainer"].tolist() == ["x", "y"]


def test_paired_differences_are_positive_where_the_reference_is_better() -> None:
    rows = [*means("up", own=0.9, other=0.5), *means("down", own=0.9, other=0.5), *means("side", own=1, other=0)]
    table = paired_differences(long_table(rows), [UP, DOWN, SIDE], "own").set_index("metric")
    assert list(table.index) == ["down", "up"]
    assert table.loc["up", "difference"] == pytest.approx(0.4)
    assert table.loc["down", "difference"] == pytest.approx(-0.4)
    assert table["verdict"].to_dict() == {"up": "ahead", "down": "behind"}


def test_pairing_uses_only_shared_images_and_sees_what_means_hide() -> None:
    # images differ far more than explainers do: only the paired interval can tell them apart
    base = np.linspace(0, 1, 20)
    rows = [("m", "own", "up", 0, str(i), value + 0.01) for i, value in enumerate(base)]
    rows += [("m", "other", "up", 0, str(i), value) for i, value in enumerate(base[:15])]
    row = paired_differences(long_table(rows), [UP], "own").iloc[0]
    assert (row["n"], row["verdict"]) == (15, "ahead")
    assert row["difference"] == pytest.approx(0.01)


def test_equal_explainers_are_level_and_one_image_says_nothing() -> None:
    level = paired_differences(long_table(means("up", own=0.5, other=0.5)), [UP], "own")
    assert level["verdict"].tolist() == ["level"]
    single = long_table([("m", "own", "up", 0, "a", 1.0), ("m", "other", "up", 0, "a", 0.0)])
    assert paired_differences(single, [UP], "own")["verdict"].tolist() == ["unknown"]


def test_models_without_the_reference_are_left_out() -> None:
    assert paired_differences(long_table(means("up", x=0.5, y=0.4)), [UP], "own").empty

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.scores import DOWN, SIDE, UP, constant_rows, long_table
from scipy import stats

from benchmarks.statistics import (
    RANK_COLUMNS,
    Resampling,
    critical_difference,
    mean_ranks,
    rank_intervals,
    rank_test,
    summarise,
)

KNOWN: list[dict[str, Any]] = [
    {"name": name, "direction": direction, "family": "localisation", "ranked": True}
    for name, direction in (("a", "higher"), ("b", "lower"), ("c", "higher"), ("d", "higher"))
]


def ranked(table: np.ndarray) -> pd.DataFrame:
    """A summary with these ranks, metrics as rows and explainers as columns."""
    rows = [("m", f"e{j}", f"k{i}", rank) for i, line in enumerate(table) for j, rank in enumerate(line)]
    return pd.DataFrame(rows, columns=["model", "explainer", "metric", "rank"])


def values(rng: np.random.Generator, images: int = 20) -> pd.DataFrame:
    rows = [
        ("m", f"e{j}", info["name"], 0, f"i{i}", (0.1 if info["direction"] == "higher" else -0.1) * j + rng.random())
        for info in KNOWN
        for j in range(4)
        for i in range(images)
    ]
    return pd.DataFrame(rows, columns=["model", "explainer", "metric", "seed", "image_id", "value"])


@pytest.mark.slow
def test_friedman_is_scipys_and_w_follows_from_it() -> None:
    rng = np.random.default_rng(0)
    table = np.array([rng.permutation(5) + 1 for _ in range(8)])
    test = rank_test(ranked(table), "m")
    assert test is not None
    expected = stats.friedmanchisquare(*table.T)
    assert (test.statistic, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    sums = table.sum(0)
    w = 12 * ((sums - sums.mean()) ** 2).sum() / (8**2 * (5**3 - 5))
    assert test.concordance == pytest.approx(w)
    assert test.ranks.to_dict() == pytest.approx({f"e{j}": sums[j] / 8 for j in range(5)})


def test_the_critical_difference_is_demsars_example() -> None:
    # Demsar 2006, 3.2.2: 4 classifiers on 14 data sets, q = 2.569
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.005)


def test_nemenyis_p_is_five_per_cent_at_the_critical_difference() -> None:
    table = np.array([[1, 2, 3, 4], [1, 2, 4, 3], [2, 1, 3, 4], [1, 3, 2, 4], [1, 2, 3, 4]])
    test = rank_test(ranked(table), "m")
    assert test is not None
    for first in test.ranks.index:
        for second in test.ranks.index.drop(first):
            apart = abs(test.ranks[first] - test.ranks[second]) > test.critical
            assert (test.p_values.loc[first, second] < 0.05) == apart


def test_a_contestant_that_lacks_a_metric_is_left_out_and_named() -> None:
    table = ranked(np.array([[1, 2, 3, 4], [2, 1, 3, 4], [1, 2, 4, 3]])).drop(index=11)
    test = rank_test(table, "m")
    assert test is not None
    assert test.left_out == ("e3",)
    assert set(test.ranks.index) == {"e0", "e1", "e2"}
    assert test.ranks["e2"] == 3


@pytest.mark.parametrize("table", [np.array([[1, 2, 3]]), np.array([[1, 2], [1, 2]])])
def test_too_little_has_no_test(table: np.ndarray) -> None:
    assert rank_test(ranked(table), "m") is None
    assert rank_test(ranked(table), "other") is None


def test_gated_metrics_are_left_out_of_the_mean_but_shown_with_it() -> None:
    table = mean_ranks(
        ranked(np.array([[1, 2], [2, 1], [1, 2]])).assign(direction="higher"), {"k1": "x", "k0": "y"}, {("m", "k1")}
    )
    first = table.set_index("explainer").loc["e0"]
    assert (first["mean_rank"], first["metrics"]) == (1, 2)
    assert (first["mean_rank_all"], first["metrics_all"]) == (pytest.approx(4 / 3), 3)
    assert "x" not in table
    none = mean_ranks(ranked(np.array([[1, 2]])), None, {("m", "k0")})
    assert none["mean_rank"].isna().all()
    assert none["metrics"].tolist() == [0, 0]
    assert none["mean_rank_all"].tolist() == [1, 2]


@pytest.mark.slow
def test_intervals_of_mean_ranks_by_brute_force() -> None:
    scores = values(np.random.default_rng(0))
    table = rank_intervals(scores, KNOWN, resampling=Resampling(resamples=300)).set_index("explainer")
    cube = scores.pivot_table(index="image_id", columns=["metric", "explainer"], values="value")
    rng, means = np.random.default_rng(9), []
    for _ in range(600):
        sample = cube.iloc[rng.integers(0, 20, 20)].mean()
        ranks = [sample[info["name"]].rank(ascending=info["direction"] == "lower") for info in KNOWN]
        means.append(pd.concat(ranks, axis=1).mean(axis=1))
    expected = pd.DataFrame(means).quantile([0.025, 0.975])
    for name in table.index:
        assert table.loc[name, "rank_low"] == pytest.approx(expected[name].iloc[0], abs=0.3)
        assert table.loc[name, "rank_high"] == pytest.approx(expected[name].iloc[1], abs=0.3)


def test_intervals_hold_the_mean_rank_and_shrink_with_images() -> None:
    wide, narrow = (values(np.random.default_rng(1), images) for images in (10, 160))
    for scores in (wide, narrow):
        ranks = mean_ranks(summarise(scores, KNOWN, resampling=Resampling(resamples=10)))
        both = ranks.merge(rank_intervals(scores, KNOWN, resampling=Resampling(resamples=300)))
        assert ((both["rank_low"] <= both["mean_rank"]) & (both["mean_rank"] <= both["rank_high"])).all()
    spans = [
        rank_intervals(s, KNOWN, resampling=Resampling(resamples=300)).eval("rank_high - rank_low").mean()
        for s in (wide, narrow)
    ]
    assert spans[1] < spans[0]


def test_certain_ranks_have_no_width_and_ties_are_shared() -> None:
    rows = [
        ("m", name, "a", 0, str(i), value) for name, value in (("x", 2.0), ("y", 1.0), ("z", 1.0)) for i in range(6)
    ]
    scores = pd.DataFrame(rows, columns=["model", "explainer", "metric", "seed", "image_id", "value"])
    table = rank_intervals(scores, KNOWN, resampling=Resampling(resamples=50)).set_index("explainer")
    assert table.loc["x"].tolist()[1:] == [1, 1]
    assert table.loc["y"].tolist()[1:] == table.loc["z"].tolist()[1:] == [2.5, 2.5]


@pytest.mark.slow
def test_the_mask_and_gated_metrics_have_no_part_in_the_intervals() -> None:
    scores = synthetic.scores(images=8)
    table = rank_intervals(scores, synthetic.meta()["metrics"], resampling=Resampling(resamples=20))
    assert "mask" not in set(table["explainer"])
    every_metric = {(model, info[0]) for model in synthetic.MODELS for info in synthetic.METRICS}
    assert rank_intervals(
        scores, synthetic.meta()["metrics"], gated=every_metric, resampling=Resampling(resamples=20)
    ).empty


def test_mean_ranks_by_hand() -> None:
    rows = [
        *constant_rows("up", mask=1, x=0.9, y=0.5),
        *constant_rows("down", x=0.9, y=0.5),
        *constant_rows("side", x=0.9, y=0.5),
    ]
    rows += constant_rows("third", x=0.9, y=0.5)
    third = {**UP, "name": "third"}
    families = {"up": "localisation", "third": "localisation", "down": "faithfulness", "side": "descriptor"}
    table = mean_ranks(summarise(long_table(rows), [UP, DOWN, SIDE, third]), families)
    assert list(table.columns) == [*RANK_COLUMNS, "faithfulness", "localisation"]
    x, y = (table.set_index("explainer").loc[name] for name in "xy")
    assert x["mean_rank"] == pytest.approx(4 / 3)
    assert (x["best_rank"], x["worst_rank"], x["metrics"], x["contestants"]) == (1, 2, 3, 2)
    assert (x["localisation"], x["faithfulness"], y["localisation"]) == (1, 2, 2)
    assert table["explainer"].tolist() == ["x", "y"]

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.scores import DOWN, SIDE, UP, long_table
from scipy import stats

from benchmarks.statistics import Resampling, agreement, gate, gate_failures, reliability
from benchmarks.statistics.reliability import concordance, fillings, retest, spearman, split_half

METHODS = ("p", "q", "r")


def means(metric: str, spread: float = 0.0, **levels: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return long_table(
        [("m", name, metric, 0, str(i), level + spread * rng.standard_normal()) for name, level in levels.items()
         for i in range(12)]
    )  # fmt: skip


def gate_row(scores: pd.DataFrame, *metrics: dict[str, Any]) -> pd.Series:
    return gate(scores, metrics or (UP, DOWN), METHODS, resampling=Resampling(resamples=200)).iloc[0]


# --- the gate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["up", "down"])
def test_the_right_order_passes_in_either_direction(metric: str) -> None:
    sign = 1 if metric == "up" else -1
    row = gate_row(means(metric, mask=sign * 0.9, p=sign * 0.6, q=sign * 0.5, r=sign * 0.4, random=sign * 0.1))
    assert row["verdict"] == "passed"
    assert [row["mask"], row["methods"], row["chance"]] == pytest.approx([sign * 0.9, sign * 0.5, sign * 0.1])


def test_noise_above_the_median_method_fails_and_says_so() -> None:
    scores = means("up", mask=0.9, p=0.8, q=0.3, r=0.2, random=0.35)
    row = gate_row(scores)
    assert row["verdict"] == "failed"
    assert row["reason"] == "the median method is not better than random (0.3 and 0.35)"
    assert gate_failures(gate(scores, [UP], METHODS, resampling=Resampling(resamples=50))) == {("m", "up")}


def test_methods_above_the_mask_fail_and_both_reasons_are_told() -> None:
    assert (
        "the evidence mask is not better" in gate_row(means("up", mask=0.5, p=0.8, q=0.6, r=0.2, random=0.1))["reason"]
    )
    upside_down = gate_row(means("down", mask=0.9, p=0.6, q=0.5, r=0.4, random=0.1))
    assert upside_down["verdict"] == "failed"
    assert upside_down["reason"].count("is not better than") == 2


def test_equal_is_not_better() -> None:
    assert gate_row(means("up", p=0.5, q=0.5, r=0.5, random=0.5))["verdict"] == "failed"


def test_without_a_mask_only_the_methods_are_judged() -> None:
    row = gate_row(means("up", p=0.8, q=0.6, r=0.2, random=0.1))
    assert (row["verdict"], row["reason"]) == ("passed", "the median method is better than random")
    assert np.isnan(row["mask"])


def test_an_order_within_the_noise_is_doubtful_and_counts() -> None:
    scores = means("up", spread=1.0, mask=9.0, p=0.0, q=0.05, r=-0.05, random=-0.2)
    row = gate_row(scores)
    assert row["verdict"] == "doubtful"
    assert "only within the noise" in row["reason"]
    assert gate_failures(gate(scores, [UP], METHODS, resampling=Resampling(resamples=50))) == set()


def test_without_noise_or_methods_nothing_is_judged() -> None:
    assert gate_row(means("up", mask=0.9, p=0.5))["verdict"] == "not judged"
    assert "random control" in gate_row(means("up", mask=0.9, p=0.5))["reason"]
    assert "scores of a method" in gate_row(means("up", mask=0.9, random=0.5))["reason"]


def test_an_even_number_of_methods_has_two_in_its_middle() -> None:
    scores = means("up", p=0.8, q=0.4, random=0.5)
    assert gate_row(scores)["methods"] == pytest.approx(0.6)
    assert gate_row(scores)["verdict"] == "passed"


def test_only_ranked_metrics_are_judged_and_the_made_up_run_passes() -> None:
    table = gate(synthetic.scores(), synthetic.meta()["metrics"], [name for name, *_ in synthetic.EXPLAINERS[:5]])
    assert set(table["metric"]) == {name for name, *_, ranked, _ in synthetic.METRICS if ranked}
    assert set(table["verdict"]) <= {"passed", "doubtful"}
    assert gate(means("side", p=1, random=0), [SIDE], METHODS).empty


# --- reliability ----------------------------------------------------------------------------------------------------


def test_concordance_by_hand_and_its_ends() -> None:
    assert concordance(np.array([[3.0, 30, 5], [2, 20, 4], [1, 10, 3]])) == pytest.approx(1)
    # three judges, ranks (1 2 3), (2 3 1), (3 1 2): all sums equal
    assert concordance(np.array([[1.0, 2, 3], [2, 3, 1], [3, 1, 2]])) == pytest.approx(0)
    # sums 4, 6, 8 of 3 methods by 3 judges: S = 8, W = 12 S / (9 (27 - 3)) = 4/9
    assert concordance(np.array([[1.0, 1, 2], [2, 3, 1], [3, 2, 3]])) == pytest.approx(4 / 9)
    assert np.isnan(concordance(np.ones((2, 5))))


def test_retest_is_spearman_between_seeds() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(30)
    blocks = [truth + 0.5 * rng.standard_normal((2, 30)) for _ in range(3)]
    expected = np.median([stats.spearmanr(*block).statistic for block in blocks])
    assert retest(blocks) == pytest.approx(expected)
    assert np.isnan(retest([truth[None]]))


def test_spearman_is_scipys_and_ignores_what_only_one_has() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 5, 20).astype(float), rng.integers(0, 5, 20).astype(float)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    first[3] = np.nan
    assert spearman(first, second) == pytest.approx(
        stats.spearmanr(np.delete(first, 3), np.delete(second, 3)).statistic
    )
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_a_clear_order_is_split_half_reliable_and_noise_is_not() -> None:
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((6, 60))
    assert split_half(noise + 5 * np.arange(6)[:, None]) == pytest.approx(1)
    assert abs(split_half(noise)) < 0.6
    assert np.isnan(split_half(noise[:2]))


def test_controls_have_no_say_in_reliability() -> None:
    scores = synthetic.scores(images=20, seeds=(0, 1))
    methods = [name for name, *_ in synthetic.EXPLAINERS[:5]]
    table = reliability(scores, synthetic.meta()["metrics"], methods)
    cut = reliability(scores[scores["explainer"].isin(methods)], synthetic.meta()["metrics"], methods)
    pd.testing.assert_frame_equal(table, cut)
    row = table[(table["model"] == "lap") & (table["metric"] == "auc")].iloc[0]
    assert (row["seeds"], row["methods"], row["images"]) == (2, 5, 19)
    assert abs(row["test_retest"]) < 0.5  # the made-up seeds have nothing in common


# --- agreement ------------------------------------------------------------------------------------------------------


def test_agreement_follows_the_directions() -> None:
    scores = pd.concat([means("up", p=0.9, q=0.5, r=0.1), means("down", p=0.1, q=0.2, r=0.3)])
    row = agreement(scores, [UP, DOWN], METHODS).iloc[0]
    assert (row["correlation"], row["methods"], row["variants"]) == (1.0, 3, "")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("insertion_mean", "insertion_blur", "mean / blur"),
        ("pixel_flipping", "pixel_flipping_blur", "mean / blur"),
        ("blur_insertion_morf", "insertion_morf", "blur / mean"),
        ("insertion", "deletion_blur", ""),
        ("mean", "mean", ""),
        ("meander", "blurred", ""),
    ],
)
def test_fillings_of_one_metric_are_seen_in_its_names(first: str, second: str, expected: str) -> None:
    assert fillings(first, second) == expected


def test_variants_are_marked_in_the_table() -> None:
    blur = {**UP, "name": "up_blur"}
    scores = pd.concat([means("up", p=0.9, q=0.5, r=0.1), means("up_blur", p=0.9, q=0.1, r=0.5)])
    row = agreement(scores, [UP, blur], METHODS).iloc[0]
    assert row["variants"] == "mean / blur"
    assert row["correlation"] == pytest.approx(0.5)

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.scores import DOWN, UP, long_table
from scipy import stats

from benchmarks.statistics import agreement, reliability
from benchmarks.statistics.reliability import concordance, fillings, retest, spearman, split_half

METHODS = ("p", "q", "r")


def means(metric: str, spread: float = 0.0, **levels: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return long_table(
        [("m", name, metric, 0, str(i), level + spread * rng.standard_normal()) for name, level in levels.items()
         for i in range(12)]
    )  # fmt: skip


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


@pytest.mark.slow
def test_controls_have_no_say_in_reliability() -> None:
    scores = synthetic.scores(images=20, seeds=(0, 1))
    methods = [name for name, *_ in synthetic.EXPLAINERS[:5]]
    table = reliability(scores, synthetic.meta()["metrics"], methods)
    cut = reliability(scores[scores["explainer"].isin(methods)], synthetic.meta()["metrics"], methods)
    pd.testing.assert_frame_equal(table, cut)
    row = table[(table["model"] == "lap") & (table["metric"] == "auc")].iloc[0]
    assert (row["seeds"], row["methods"], row["images"]) == (2, 5, 19)
    assert abs(row["test_retest"]) < 0.5  # the made-up seeds have nothing in common


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

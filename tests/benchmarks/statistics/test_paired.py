from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from helpers.scores import DOWN, SIDE, UP, constant_rows, long_table, rows_of
from scipy import stats

from benchmarks.statistics import (
    Resampling,
    count_significant,
    holm,
    paired_differences,
    signed_rank,
)


def test_the_p_value_is_that_of_all_signs() -> None:
    values = np.array([0.3, -0.1, 0.9, 1.4, 0.7, -0.2, 1.1, 0.55])
    ranks = stats.rankdata(np.abs(values))
    observed = abs((ranks * np.sign(values)).sum())
    sums = [abs((ranks * np.array(signs)).sum()) for signs in product([-1, 1], repeat=8)]
    expected = np.mean(np.array(sums) >= observed - 1e-12)
    p, effect = signed_rank(values)
    assert p == pytest.approx(expected)
    assert effect == pytest.approx((ranks * np.sign(values)).sum() / 36)


def test_ties_and_zeros_by_hand() -> None:
    # ranks with the zeros (Pratt): two zeros share 1.5, four ones share 4.5, the two 7 and 8
    values = np.array([0, 0, 1, 1, -1, 1, 2, 3])
    assert signed_rank(values)[1] == pytest.approx((3 * 4.5 - 4.5 + 7 + 8) / 36)


def test_many_ties_agree_with_the_normal_theory() -> None:
    # hits and misses: the ranks of all that differ are equal, and the test is a sign test
    values = np.array([1] * 30 + [-1] * 12 + [0] * 18)
    p, effect = signed_rank(values)
    z = (30 - 12) / np.sqrt(42)
    assert p == pytest.approx(2 * stats.norm.sf(z), rel=1e-6)
    assert 0 < effect < (30 - 12) / 42


def test_nothing_and_equal_differ_from_each_other() -> None:
    assert signed_rank(np.zeros(5)) == (1.0, 0.0)
    assert np.isnan(signed_rank([0.5])).all()


def test_all_in_favour_is_one() -> None:
    assert signed_rank(np.arange(1, 9))[1] == 1
    assert signed_rank(-np.arange(1.0, 9.0))[1] == -1


@pytest.mark.slow
def test_holm_by_hand() -> None:
    # ordered .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .06
    assert holm([0.04, 0.01, np.nan, 0.03, 0.02]) == pytest.approx([0.06, 0.04, np.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert np.isnan(holm([np.nan])).all()


@pytest.mark.slow
def test_holm_spans_all_comparisons_of_a_model_and_no_more() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20)
    rows = rows_of("own", scores) + rows_of("own", scores, "down")
    for shift, name in ((0.05, "a"), (0.2, "b")):
        rows += rows_of(name, scores - shift * rng.random(20)) + rows_of(name, scores + shift * rng.random(20), "down")
    table = paired_differences(long_table(rows), [UP, DOWN], "own", resampling=Resampling(resamples=50))
    assert table["p_holm"].to_numpy() == pytest.approx(holm(table["p"].to_numpy()))
    assert len(table) == 4
    twice = pd.concat([long_table(rows), long_table([("k", *row[1:]) for row in rows])])
    both = paired_differences(twice, [UP, DOWN], "own", resampling=Resampling(resamples=50))
    assert both[both["model"] == "m"]["p_holm"].to_numpy() == pytest.approx(table["p_holm"].to_numpy())


@pytest.mark.slow
def test_effect_and_difference_have_the_same_sign_whatever_is_better() -> None:
    rows = rows_of("own", range(10)) + rows_of("other", np.arange(10) - 1.0)
    rows += rows_of("own", range(10), "down") + rows_of("other", np.arange(10) - 1.0, "down")
    table = paired_differences(long_table(rows), [UP, DOWN], "own", resampling=Resampling(resamples=50)).set_index(
        "metric"
    )
    assert table["rank_biserial"].to_dict() == {"up": 1.0, "down": -1.0}
    assert (table["difference"] * table["rank_biserial"] > 0).all()


@pytest.mark.slow
def test_rounding_is_no_difference() -> None:
    rows = rows_of("own", [0.1 + 0.2] * 6) + rows_of("other", [0.3] * 6)
    row = paired_differences(long_table(rows), [UP], "own").iloc[0]
    assert (row["difference"], row["p"], row["rank_biserial"], row["verdict"]) == (0, 1, 0, "level")


def test_verdicts_that_hold_are_those_below_five_per_cent() -> None:
    table = pd.DataFrame({"verdict": ["ahead", "behind", "level", "ahead"], "p_holm": [0.01, 0.2, 0.01, np.nan]})
    assert count_significant(table) == 1


@pytest.mark.slow
def test_false_alarms_are_kept_by_holm() -> None:
    # 12 explainers as good as the own one: without correction every other run has one that looks different
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(20):
        p = [signed_rank(rng.standard_normal(25))[0] for _ in range(12)]
        alarms += bool((holm(p) < 0.05).any())
    assert alarms / 20 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20)


@pytest.mark.slow
def test_paired_differences_are_positive_where_the_reference_is_better() -> None:
    rows = [
        *constant_rows("up", own=0.9, other=0.5),
        *constant_rows("down", own=0.9, other=0.5),
        *constant_rows("side", own=1, other=0),
    ]
    table = paired_differences(long_table(rows), [UP, DOWN, SIDE], "own").set_index("metric")
    assert list(table.index) == ["down", "up"]
    assert table.loc["up", "difference"] == pytest.approx(0.4)
    assert table.loc["down", "difference"] == pytest.approx(-0.4)
    assert table["verdict"].to_dict() == {"up": "ahead", "down": "behind"}


@pytest.mark.slow
def test_pairing_uses_only_shared_images_and_sees_what_means_hide() -> None:
    # images differ far more than explainers do: only the paired interval can tell them apart
    base = np.linspace(0, 1, 20)
    rows = [("m", "own", "up", 0, str(i), value + 0.01) for i, value in enumerate(base)]
    rows += [("m", "other", "up", 0, str(i), value) for i, value in enumerate(base[:15])]
    row = paired_differences(long_table(rows), [UP], "own").iloc[0]
    assert (row["n"], row["verdict"]) == (15, "ahead")
    assert row["difference"] == pytest.approx(0.01)


@pytest.mark.slow
def test_equal_explainers_are_level_and_one_image_says_nothing() -> None:
    level = paired_differences(long_table(constant_rows("up", own=0.5, other=0.5)), [UP], "own")
    assert level["verdict"].tolist() == ["level"]
    single = long_table([("m", "own", "up", 0, "a", 1.0), ("m", "other", "up", 0, "a", 0.0)])
    assert paired_differences(single, [UP], "own")["verdict"].tolist() == ["unknown"]


def test_models_without_the_reference_are_left_out() -> None:
    assert paired_differences(long_table(constant_rows("up", x=0.5, y=0.4)), [UP], "own").empty

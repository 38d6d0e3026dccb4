from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.scores import DOWN, SIDE, UP, long_table

from benchmarks.statistics import Resampling, gate, gate_failures

METHODS = ("p", "q", "r")


def means(metric: str, spread: float = 0.0, **levels: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return long_table(
        [("m", name, metric, 0, str(i), level + spread * rng.standard_normal()) for name, level in levels.items()
         for i in range(12)]
    )  # fmt: skip


def gate_row(scores: pd.DataFrame, *metrics: dict[str, Any]) -> pd.Series:
    return gate(scores, metrics or (UP, DOWN), METHODS, resampling=Resampling(resamples=200)).iloc[0]


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


@pytest.mark.slow
def test_only_ranked_metrics_are_judged_and_the_made_up_run_passes() -> None:
    table = gate(synthetic.scores(), synthetic.meta()["metrics"], [name for name, *_ in synthetic.EXPLAINERS[:5]])
    assert set(table["metric"]) == {name for name, *_, ranked, _ in synthetic.METRICS if ranked}
    assert set(table["verdict"]) <= {"passed", "doubtful"}
    assert gate(means("side", p=1, random=0), [SIDE], METHODS).empty

from __future__ import annotations

import pytest
from helpers.scores import DOWN, UP, long_table, rows_of

from benchmarks.statistics import (
    Resampling,
    relative_scores,
    summarise,
)


def test_relative_scores_put_random_at_zero_and_the_mask_at_one() -> None:
    rows = rows_of("x", [0.6] * 3) + rows_of("random", [0.2] * 3) + rows_of("mask", [1.0] * 3)
    rows += rows_of("x", [0.3] * 3, "down") + rows_of("random", [0.5] * 3, "down") + rows_of("mask", [0.1] * 3, "down")
    summary = summarise(long_table(rows), [UP, DOWN], resampling=Resampling(resamples=10))
    table = relative_scores(summary).set_index(["metric", "explainer"])["relative"]
    for metric in ("up", "down"):
        assert table[metric].to_dict() == pytest.approx({"mask": 1, "random": 0, "x": 0.5})
    assert set(relative_scores(summary, {("m", "up")})["metric"]) == {"down"}

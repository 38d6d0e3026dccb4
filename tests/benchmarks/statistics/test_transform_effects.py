from __future__ import annotations

import numpy as np
import pytest
from helpers import runs as synthetic
from helpers.scores import DOWN, UP, long_table, rows_of

from benchmarks.statistics import (
    Resampling,
    best_transforms,
    rank_changes,
    transform_effects,
)
from benchmarks.store.score_names import transform_of


def test_names_of_transformed_maps() -> None:
    assert transform_of("lap@smooth2") == ("lap", "smooth2")
    assert transform_of("grad_cam") == ("grad_cam", "")


def test_gains_and_ranks_before_and_after_by_hand() -> None:
    rows = rows_of("x", [0.9] * 5) + rows_of("y", [0.5] * 5) + rows_of("z", [0.7] * 5)
    rows += rows_of("x@smooth2", [0.6] * 5) + rows_of("y@smooth2", [0.8] * 5) + rows_of("mask@smooth2", [0.95] * 5)
    rows += rows_of("mask", [1.0] * 5)
    table = transform_effects(long_table(rows), [UP], resampling=Resampling(resamples=20)).set_index("explainer")
    assert table.loc["x", ["plain", "changed", "gain"]].tolist() == pytest.approx([0.9, 0.6, -0.3])
    # z has no smoothed maps: it has no place among those that are compared
    assert table.loc["x", ["rank_plain", "rank_changed"]].tolist() == [1, 2]
    assert table.loc["y", ["rank_plain", "rank_changed"]].tolist() == [2, 1]
    assert np.isnan(table.loc["mask", "rank_plain"])
    assert "z" not in table.index


def test_a_gain_is_positive_where_the_score_gets_better() -> None:
    rows = rows_of("x", [0.9] * 5, "down") + rows_of("x@grid8", [0.4] * 5, "down")
    row = transform_effects(long_table(rows), [DOWN], resampling=Resampling(resamples=20)).iloc[0]
    assert row["gain"] == pytest.approx(0.5)
    assert row["transform"] == "grid8"


def test_mean_ranks_shift_over_metrics_that_are_not_gated() -> None:
    rows = (
        rows_of("x", [0.9] * 5)
        + rows_of("y", [0.5] * 5)
        + rows_of("x", [0.1] * 5, "down")
        + rows_of("y", [0.5] * 5, "down")
    )
    rows += rows_of("x@s", [0.4] * 5) + rows_of("y@s", [0.5] * 5) + rows_of("x@s", [0.1] * 5, "down")
    rows += rows_of("y@s", [0.5] * 5, "down")
    table = transform_effects(long_table(rows), [UP, DOWN], resampling=Resampling(resamples=20))
    shift = rank_changes(table).set_index("explainer")
    assert shift.loc["x", ["mean_rank_plain", "mean_rank_changed"]].tolist() == [1, 1.5]
    gated = rank_changes(table, {("m", "down")}).set_index("explainer")
    assert gated.loc["x", ["mean_rank_changed", "metrics", "contestants"]].tolist() == [2, 1, 2]


def test_each_explainer_takes_the_form_that_suits_it_best() -> None:
    rows = rows_of("x", [0.8] * 5) + rows_of("x@sharp2", [0.7] * 5) + rows_of("x@sharp0.5", [0.6] * 5)
    rows += rows_of("y", [0.5] * 5) + rows_of("y@sharp2", [0.9] * 5) + rows_of("y@sharp0.5", [0.1] * 5)
    rows += rows_of("x@smooth2", [0.85] * 5) + rows_of("y@smooth2", [0.84] * 5)
    metrics = [UP, DOWN]
    best = best_transforms(
        transform_effects(long_table(rows), metrics, resampling=Resampling(resamples=20)), metrics
    ).set_index(["kind", "explainer"])
    assert best.loc["sharp", "chosen"].to_dict() == {"y": "sharp2", "x": ""}
    assert best.loc["sharp", "mean_rank"].to_dict() == {"y": 1, "x": 2}  # plain, x is the first
    assert best.loc["smooth", "chosen"].to_dict() == {"x": "smooth2", "y": "smooth2"}
    assert best.loc["smooth", "mean_rank"].to_dict() == {"x": 1, "y": 2}
    assert set(best["metrics"]) == {1}
    assert set(best["contestants"]) == {2}


def test_forms_are_chosen_over_all_metrics() -> None:
    rows = [row for name, up, down in (("x", 0.9, 0.9), ("x@sharp2", 0.1, 0.1), ("y", 0.5, 0.5), ("y@sharp2", 0.4, 0.6))
            for row in rows_of(name, [up] * 5) + rows_of(name, [down] * 5, "down")]  # fmt: skip
    table = transform_effects(long_table(rows), [UP, DOWN], resampling=Resampling(resamples=20))
    both, down = (
        best_transforms(effects, [UP, DOWN]).set_index("explainer")
        for effects in (table, table[table["metric"] == "down"])
    )
    assert both.loc["x", ["chosen", "metrics"]].tolist() == ["", 2]  # 1 and 4 plain, 4 and 1 sharpened: a tie is plain
    assert down.loc["x", ["chosen", "mean_rank", "metrics"]].tolist() == ["sharp2", 1, 1]


@pytest.mark.slow
def test_runs_without_transforms_have_no_ablations() -> None:
    assert transform_effects(synthetic.scores(images=3), synthetic.meta()["metrics"]).empty
    assert rank_changes(transform_effects(long_table([]), [UP])).empty
    assert best_transforms(transform_effects(long_table([]), [UP]), [UP]).empty

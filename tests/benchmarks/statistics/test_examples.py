from __future__ import annotations

import numpy as np
import pandas as pd
from helpers.scores import DOWN, UP, long_table, rows_of

from benchmarks.statistics import (
    examples,
    most_reliable_metric,
)


def test_best_median_and_worst_by_the_paired_difference() -> None:
    scores = long_table(rows_of("own", [5, 1, 3, 2, 9]) + rows_of("other", [1, 3, 2, 2, 0]))
    by_role = {e.role: e for e in examples(scores, [UP], "own", ["other"], {"m": "up"})}
    assert {role: e.image for role, e in by_role.items()} == {"best": "i4", "median": "i2", "worst": "i1"}
    assert [e.rank for e in by_role.values()] == [1, 3, 5]
    assert all(e.exact for e in by_role.values())
    assert (by_role["worst"].own_score, by_role["worst"].other_score, by_role["worst"].images) == (1, 3, 5)
    lower = {e.role: e.image for e in examples(scores.assign(metric="down"), [DOWN], "own", ["other"], {"m": "down"})}
    assert (lower["best"], lower["worst"]) == ("i1", "i4")


def test_only_images_with_both_maps_are_shown_at_their_true_place() -> None:
    scores = long_table(rows_of("own", [5, 1, 3, 2, 9]) + rows_of("other", [0] * 5))
    available = {("m", "own"): {"i0", "i1", "i3"}, ("m", "other"): {"i0", "i3", "i4"}}
    selected = examples(scores, [UP], "own", ["other"], {"m": "up"}, available)
    assert [(e.role, e.image, e.rank) for e in selected] == [("best", "i0", 2), ("worst", "i3", 4)]
    assert not any(e.exact for e in selected)
    assert examples(scores, [UP], "own", ["other", "own", "absent"], {"m": "up"}, {}) == []


def test_the_metric_of_the_examples_is_the_one_images_agree_on_and_not_gated() -> None:
    trusted = pd.DataFrame({"model": "m", "metric": ["a", "b", "c"], "image_agreement": [0.2, 0.9, 0.5]})
    gates = pd.DataFrame({"model": "m", "metric": ["a", "b", "c"], "verdict": ["passed", "failed", "passed"]})
    assert most_reliable_metric(trusted, gates, "m") == "c"
    assert most_reliable_metric(trusted, gates, "other") is None
    assert most_reliable_metric(trusted.assign(image_agreement=np.nan), gates, "m") == "a"

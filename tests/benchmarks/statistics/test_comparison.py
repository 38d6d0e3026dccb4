from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.statistics import bootstrap_ci
from benchmarks.statistics.comparison import COLUMNS, compare, only_in_one
from benchmarks.store.record import RunRecord
from benchmarks.store.run_data import RunData
from interp_core.errors import StoreError

METRICS = [
    {"name": "auc", "family": "localisation", "direction": "higher"},
    {"name": "drop", "family": "faithfulness", "direction": "lower"},
    {"name": "sparseness", "family": "descriptor", "direction": "none"},
]


def run(values: dict[tuple[str, int], np.ndarray], first: int = 0) -> RunData:
    """A run of one model and explainer from scores by metric and seed; images are numbered from `first`."""
    tables = [
        pd.DataFrame(
            {
                "model": "net", "explainer": "lap", "metric": metric, "seed": seed, "value": column,
                "image_id": [f"i{first + i:03d}" for i in range(len(column))], "degenerate": False,
            }
        )
        for (metric, seed), column in values.items()
    ]  # fmt: skip
    return RunData(RunRecord.model_validate({"metrics": METRICS}), pd.concat(tables, ignore_index=True))


def rows(table: pd.DataFrame) -> dict[str, pd.Series]:
    return {row["metric"]: row for _, row in table.iterrows()}


def test_differences_are_paired_by_image() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(40)
    gain = 0.05 + 0.01 * rng.random(40)
    row = rows(compare(run({("auc", 0): base}), run({("auc", 0): base + gain})))["auc"]
    assert row["difference"] == pytest.approx(gain.mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(bootstrap_ci(gain))
    assert (row["first"], row["second"]) == pytest.approx((base.mean(), (base + gain).mean()))
    assert (row["n"], row["verdict"]) == (40, "better")


def test_only_common_images_count() -> None:
    values = np.arange(10.0)
    row = rows(compare(run({("auc", 0): values}), run({("auc", 0): values}, first=4)))["auc"]
    assert (row["n"], row["first"], row["second"]) == (6, 6.5, 2.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "shift", "verdict"),
    [
        ("auc", 1, "better"),
        ("auc", -1, "worse"),
        ("drop", 1, "worse"),
        ("drop", -1, "better"),
        ("sparseness", 1, "differs"),
        ("auc", 0, "same"),
    ],
)
def test_verdicts_follow_the_direction(metric: str, shift: float, verdict: str) -> None:
    base = np.arange(8.0)
    table = compare(run({(metric, 0): base}), run({(metric, 0): base + shift}))
    assert list(table["verdict"]) == [verdict]
    assert list(table.columns) == list(COLUMNS)


def test_noise_has_no_verdict() -> None:
    rng = np.random.default_rng(1)
    base, noise = rng.random(50), rng.normal(size=50)
    table = compare(run({("auc", 0): base}), run({("auc", 0): base + noise - noise.mean()}))
    assert list(table["verdict"]) == [""]


def test_common_seeds_are_taken_and_all_where_there_are_none() -> None:
    low, high = np.zeros(4), np.ones(4)
    first = run({("auc", 0): low, ("auc", 1): high})
    assert compare(first, run({("auc", 1): high}))["difference"].tolist() == [0]
    assert compare(first, run({("auc", 2): high}))["difference"].tolist() == [0.5]


def test_scores_that_are_missing_are_left_out() -> None:
    values = np.array([1.0, np.nan, 3.0])
    assert compare(run({("auc", 0): values}), run({("auc", 0): values}))["n"].tolist() == [2]


def test_runs_without_anything_in_common() -> None:
    first, second = run({("auc", 0): np.ones(3)}), run({("drop", 0): np.ones(3)})
    with pytest.raises(StoreError, match="share no score"):
        compare(first, second)
    assert only_in_one(first, second) == ["only the first run has metric auc", "only the second run has metric drop"]

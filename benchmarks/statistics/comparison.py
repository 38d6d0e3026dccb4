"""Two runs against each other: the paired difference of every score, on the images that both have explained.

Differences are second run minus first, per image: the mean over the seeds that both have, or over all where they share
none. Intervals are percentile bootstrap over images (`statistics.bootstrap_ci`). Known limit: they are not corrected
for the number of comparisons; of twenty rows without any difference one will show one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.statistics import bootstrap_ci, per_image
from benchmarks.store.run_data import RunData
from interp_core.errors import StoreError

KEYS = ["model", "explainer", "metric"]
COLUMNS = (*KEYS, "first", "second", "difference", "ci_low", "ci_high", "n", "verdict")
VERDICTS = {"higher": ("worse", "better"), "lower": ("better", "worse")}


def compare(first: RunData, second: RunData, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Columns `COLUMNS`: means of both runs on the common images, second minus first with its interval, and a verdict.

    The verdict is "better" or "worse" for the second run where the interval leaves out 0 and the metric has a better
    direction, "differs" where it has none, "same" where every image has the same score, else "".

    Raises:
        StoreError: the runs share no score of any image.
    """
    both = _paired(first.whole, second.whole)
    if both.empty:
        raise StoreError("the two runs share no score of one model, explainer, metric and image: nothing to compare")
    directions = {name: info.direction for name, info in {**first.metrics, **second.metrics}.items()}
    rows = [
        {**dict(zip(KEYS, names, strict=True)), **_row(group, directions, str(names[2]), resamples, seed)}
        for names, group in both.groupby(KEYS, sort=False)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def only_in_one(first: RunData, second: RunData) -> list[str]:
    """Models, explainers and metrics that one run has and the other has not, in words."""
    lines = []
    for column in KEYS:
        sets = [set(data.whole[column]) for data in (first, second)]
        for name, alone in (("first", sets[0] - sets[1]), ("second", sets[1] - sets[0])):
            if alone:
                lines.append(f"only the {name} run has {column} {', '.join(sorted(alone))}")
    return lines


def _paired(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """One row per common model, explainer, metric and image, in the first run's order."""
    seeds = set(first["seed"]) & set(second["seed"])
    means = [per_image(scores[scores["seed"].isin(seeds)] if seeds else scores) for scores in (first, second)]
    both = means[0].merge(means[1], on=[*KEYS, "image_id"], suffixes=("_first", "_second"))
    both = both.dropna(subset=["value_first", "value_second"])
    order = first[KEYS].drop_duplicates().reset_index(drop=True).reset_index(names="place")
    return both.merge(order, on=KEYS).sort_values(["place", "image_id"], ignore_index=True)


def _row(
    group: pd.DataFrame, directions: Mapping[str, str], metric: str, resamples: int, seed: int
) -> dict[str, object]:
    first, second = group["value_first"].to_numpy(), group["value_second"].to_numpy()
    difference = second - first
    low, high = bootstrap_ci(difference, resamples=resamples, seed=seed)
    return {
        "first": first.mean(),
        "second": second.mean(),
        "difference": difference.mean(),
        "ci_low": low,
        "ci_high": high,
        "n": len(group),
        "verdict": _verdict(difference, low, high, directions.get(metric, "none")),
    }


def _verdict(difference: np.ndarray, low: float, high: float, direction: str) -> str:
    if not difference.any():
        return "same"
    if not (low > 0 or high < 0):
        return ""
    return VERDICTS.get(direction, ("differs", "differs"))[int(low > 0)]

"""Comparison of two runs: the paired difference of every score, on the images that both have explained.

Differences are second run minus first, per image. Each is the mean over the seeds that both runs have, or over all
seeds if they share none. Intervals are percentile bootstrap over images (`statistics.bootstrap_ci`).

Known limit: the intervals are not corrected for the number of comparisons. Of twenty rows without any difference one
will show one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.statistics import DEFAULT, Resampling, bootstrap_ci, per_image
from benchmarks.store.run_data import RunData
from interp_core.errors import StoreError

KEYS = ["model", "explainer", "metric"]
COLUMNS = (*KEYS, "first", "second", "difference", "ci_low", "ci_high", "n", "verdict")
VERDICTS = {"higher": ("worse", "better"), "lower": ("better", "worse")}


def compare(first: RunData, second: RunData, *, resampling: Resampling = DEFAULT) -> pd.DataFrame:
    """Compare the scores of two runs on their common images.

    Args:
        first: a run.
        second: another run.
        resampling: settings of the intervals.

    Returns:
        `COLUMNS`: means of both runs, second minus first with its interval, and a verdict. It is "better" or "worse"
        for the second run where the interval leaves out 0 and the metric has a better direction, "differs" where it has
        none, "same" where every image has the same score, else "".

    Raises:
        StoreError: the runs share no score of any image.
    """
    both = _pair_scores(first.all_scores, second.all_scores)
    if both.empty:
        raise StoreError("the two runs share no score of one model, explainer, metric and image: nothing to compare")
    directions = {name: info.direction for name, info in {**first.metrics, **second.metrics}.items()}
    rows = [
        {**dict(zip(KEYS, names, strict=True)), **_row(group, directions.get(str(names[2]), "none"), resampling)}
        for names, group in both.groupby(KEYS, sort=False)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def only_in_one(first: RunData, second: RunData) -> list[str]:
    """Describe models, explainers and metrics that only one run has."""
    lines = []
    for column in KEYS:
        sets = [set(data.all_scores[column]) for data in (first, second)]
        for name, missing in (("first", sets[0] - sets[1]), ("second", sets[1] - sets[0])):
            if missing:
                lines.append(f"only the {name} run has {column} {', '.join(sorted(missing))}")
    return lines


def _pair_scores(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model, explainer, metric and image of both runs.

    Rows are in the order of the first run.
    """
    seeds = set(first["seed"]) & set(second["seed"])
    means = [per_image(scores[scores["seed"].isin(seeds)] if seeds else scores) for scores in (first, second)]
    both = means[0].merge(means[1], on=[*KEYS, "image_id"], suffixes=("_first", "_second"))
    both = both.dropna(subset=["value_first", "value_second"])
    order = first[KEYS].drop_duplicates().reset_index(drop=True).reset_index(names="position")
    return both.merge(order, on=KEYS).sort_values(["position", "image_id"], ignore_index=True)


def _row(group: pd.DataFrame, direction: str, resampling: Resampling) -> Mapping[str, object]:
    first, second = group["value_first"].to_numpy(), group["value_second"].to_numpy()
    difference = second - first
    low, high = bootstrap_ci(difference, resampling)
    return {
        "first": first.mean(),
        "second": second.mean(),
        "difference": difference.mean(),
        "ci_low": low,
        "ci_high": high,
        "n": len(group),
        "verdict": _verdict(difference, low, high, direction),
    }


def _verdict(difference: np.ndarray, low: float, high: float, direction: str) -> str:
    if not difference.any():
        return "same"
    if not (low > 0 or high < 0):
        return ""
    return VERDICTS.get(direction, ("differs", "differs"))[int(low > 0)]

"""Means with intervals and ranks, one row per model, explainer and metric."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from benchmarks.statistics.intervals import DEFAULT, Resampling, count_seeds, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks_of, by_name, is_ranked, means_of_images
from benchmarks.store.score_names import REFERENCES

COLUMNS = (
    "model", "explainer", "metric", "direction", "mean", "ci_low", "ci_high", "rank", "n", "seeds", "resampled",
)  # fmt: skip
IMAGES, SEEDS_AND_IMAGES = "images", "seeds and images"


def summarise(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    *,
    resampling: Resampling = DEFAULT,
    references: Collection[str] = REFERENCES,
) -> pd.DataFrame:
    """Compute mean, interval and rank of every model, explainer and metric.

    Args:
        scores: long table with columns model, explainer, metric, seed, image_id, value.
        metrics: descriptions with name, direction, family and ranked; unknown metrics have no direction and no rank.
        resampling: settings of the intervals.
        references: explainers that get no rank, such as the mask itself.

    Returns:
        `COLUMNS`, sorted by name. Rank 1 is best; equal means share their average rank; NaN without a rank. `n` is the
        number of images. `resampled` says what the interval covers: "images" with one training seed, "seeds and images"
        with several.
    """
    if scores.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    descriptions = by_name(metrics)
    rows = []
    for key, block in blocks_of(scores).items():
        seeds = count_seeds(block)
        low, high = hierarchical_ci(block, resampling)
        count = int((~np.isnan(means_of_images(block))).sum())
        direction = descriptions.get(key[2], {}).get("direction", "none")
        covered = SEEDS_AND_IMAGES if seeds > 1 else IMAGES
        rows.append((*key, direction, image_mean(block), low, high, np.nan, count, seeds, covered))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    has_rank = table["metric"].map(lambda name: is_ranked(descriptions.get(name, {})))
    has_rank &= ~table["explainer"].isin(references)
    for _, group in table[has_rank].groupby(["model", "metric"], observed=True):
        table.loc[group.index, "rank"] = rank_means(group["mean"].to_numpy(), group["direction"].iloc[0])
    return table


def rank_means(means: ArrayLike, direction: str) -> np.ndarray:
    """Rank means (k,) from 1, the best in `direction`.

    Ties share their average rank. NaN stay NaN.
    """
    sign = -1.0 if direction == "higher" else 1.0
    # Sums in another order differ in their last digits, which is no difference of means.
    rounded = np.array([float(f"{value:.12g}") for value in np.asarray(means, dtype=np.float64)])
    return np.asarray(stats.rankdata(sign * rounded, nan_policy="omit"), dtype=np.float64)

"""From per-image scores to means with intervals and ranks, one row per model, explainer and metric."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from benchmarks.statistics.intervals import LEVEL, RESAMPLES, hierarchical_ci, image_mean, seeds_in
from benchmarks.statistics.scores import blocks, described, is_ranked, means_of_images, widened
from benchmarks.store.score_names import REFERENCES

COLUMNS = (
    "model", "explainer", "metric", "direction", "mean", "ci_low", "ci_high", "rank", "n", "seeds", "resampled",
)  # fmt: skip
IMAGES, BOTH = "images", "seeds and images"


def summarise(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    references: Collection[str] = REFERENCES,
) -> pd.DataFrame:
    """One row per model, explainer and metric: mean over images, interval, rank in model and metric, images counted.

    Args:
        scores: long table with columns model, explainer, metric, seed, image_id, value.
        metrics: descriptions with name, direction, family and ranked; unknown metrics have no direction and no rank.
        level: coverage of the intervals.
        resamples: bootstrap samples a row.
        seed: of the resampling, the same for every row, so that explainers judged on the same images are drawn alike.
        references: explainers that are the answer itself and so get no rank.

    Returns:
        `COLUMNS`, sorted by name. Rank 1 is best; equal means share their average rank; NaN where nothing is ranked.
        `resampled` says what the interval covers: "images" with one training seed, "seeds and images" with several.
    """
    if scores.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    known = described(metrics)
    rows = []
    for names, block in blocks(widened(scores)).items():
        seeds = seeds_in(block)
        low, high = hierarchical_ci(block, level, resamples, seed)
        count = int((~np.isnan(means_of_images(block))).sum())
        direction = known.get(names[2], {}).get("direction", "none")
        covered = BOTH if seeds > 1 else IMAGES
        rows.append((*names, direction, image_mean(block), low, high, np.nan, count, seeds, covered))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    counted = table["metric"].map(lambda name: is_ranked(known.get(name, {}))) & ~table["explainer"].isin(references)
    for _, group in table[counted].groupby(["model", "metric"], observed=True):
        table.loc[group.index, "rank"] = rank_means(group["mean"].to_numpy(), group["direction"].iloc[0])
    return table


def rank_means(means: ArrayLike, direction: str) -> np.ndarray:
    """Ranks (k,) of means (k,), 1 = best in `direction`; ties share their average rank, NaN stay NaN."""
    sign = -1.0 if direction == "higher" else 1.0
    # sums in another order differ in the last digits; that is not a difference
    rounded = np.array([float(f"{value:.12g}") for value in np.asarray(means, dtype=np.float64)])
    return np.asarray(stats.rankdata(sign * rounded, nan_policy="omit"), dtype=np.float64)

"""From per-image scores to means with intervals, ranks, and paired differences.

Images are the unit: scores of several seeds are averaged per image first, then images are resampled (percentile
bootstrap, Efron and Tibshirani 1993; scipy.stats.bootstrap). All rows share one seed, so that explainers judged on the
same images are resampled alike. Known limits: the intervals cover the choice of images, not the training of the
network; the paired intervals are not corrected for the number of comparisons.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

COLUMNS = ("model", "explainer", "metric", "direction", "mean", "ci_low", "ci_high", "rank", "n")
RANK_COLUMNS = ("model", "explainer", "mean_rank", "best_rank", "worst_rank", "metrics", "contestants")
PAIRED_COLUMNS = ("model", "explainer", "metric", "difference", "ci_low", "ci_high", "n", "verdict")
COST: dict[str, dict[str, Any]] = {
    "seconds": {
        "name": "seconds",
        "title": "Seconds per image",
        "family": "cost",
        "direction": "lower",
        "ranked": False,
    },
    "forwards": {
        "name": "forwards",
        "title": "Forward passes per image",
        "family": "cost",
        "direction": "lower",
        "ranked": False,
    },
}
REFERENCES = ("mask",)
_KEYS = ["model", "explainer", "metric"]
_MEMORY = 4_000_000
# scipy renamed the argument in 1.15 and will drop the old name
_RNG = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"


def bootstrap_ci(values: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (n,) scores; NaN are dropped.
        level: coverage, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        (low, high); both NaN with fewer than two values.
    """
    clean = np.asarray(values, dtype=np.float64).ravel()
    clean = clean[~np.isnan(clean)]
    if len(clean) < 2:
        return float("nan"), float("nan")
    if np.ptp(clean) == 0:
        return float(clean[0]), float(clean[0])
    options: dict[str, Any] = {_RNG: np.random.default_rng(seed), "batch": max(1, _MEMORY // len(clean))}
    interval = stats.bootstrap(
        (clean,), np.mean, confidence_level=level, n_resamples=resamples, method="percentile", **options
    ).confidence_interval
    return float(interval.low), float(interval.high)


def per_image(scores: pd.DataFrame) -> pd.DataFrame:
    """Long table with one value per model, explainer, metric and image: the mean over seeds, NaN skipped."""
    keys = [*_KEYS, "image_id"]
    return scores.groupby(keys, sort=True, observed=True)["value"].mean().reset_index()


def described(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """What is known of each metric, by name; the two cost scores are known without being described."""
    return {**COST, **{entry["name"]: entry for entry in metrics if "name" in entry}}


def is_ranked(metric: Mapping[str, Any]) -> bool:
    """Whether a metric counts: it has a better direction, is meant to be ranked, and judges quality, not cost."""
    judged = metric.get("direction") in ("higher", "lower") and metric.get("family") not in ("descriptor", "cost")
    return judged and bool(metric.get("ranked", True))


def summarise(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    references: Collection[str] = REFERENCES,
) -> pd.DataFrame:
    """One row per model, explainer and metric: mean over images, interval, rank in model and metric, images counted.

    Args:
        scores: long table with columns model, explainer, metric, seed, image_id, value.
        metrics: descriptions with name, direction, family and ranked; unknown metrics have no direction and no rank.
        level: coverage of the intervals.
        resamples: bootstrap samples a row.
        seed: of the resampling, the same for every row.
        references: explainers that are the answer itself and so get no rank.

    Returns:
        `COLUMNS`, sorted by name. Rank 1 is best; equal means share their average rank; NaN where nothing is ranked.
    """
    if scores.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    known = described(metrics)
    rows = []
    groups: Any = per_image(scores).groupby(_KEYS, sort=True, observed=True)["value"]
    for names, values in groups:
        low, high = bootstrap_ci(values.to_numpy(), level, resamples, seed)
        direction = known.get(names[2], {}).get("direction", "none")
        rows.append((*names, direction, values.mean(), low, high, float("nan"), int(values.count())))
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


def mean_ranks(summary: pd.DataFrame, families: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Mean rank of each explainer within each model, best first.

    Args:
        summary: from `summarise`.
        families: metric name to family; adds one column of mean ranks per family that has ranked metrics.

    Returns:
        `RANK_COLUMNS`: mean, best and worst rank over `metrics` ranked metrics, and the number of contestants that were
        ranked; then the families. Explainers without any rank are left out.
    """
    ranked = summary.dropna(subset=["rank"])
    if ranked.empty:
        return pd.DataFrame(columns=list(RANK_COLUMNS))
    by = ["model", "explainer"]
    table = ranked.groupby(by, observed=True)["rank"].agg(["mean", "min", "max", "count"]).reset_index()
    table.columns = list(RANK_COLUMNS[:-1])
    table["contestants"] = table.groupby("model", observed=True)["explainer"].transform("count")
    family_of = ranked["metric"].map(families or {})
    for family in dict.fromkeys(family_of.dropna()):
        means = ranked[family_of == family].groupby(by, observed=True)["rank"].mean().rename(family)
        table = table.merge(means.reset_index(), on=by, how="left")
    return table.sort_values(["model", "mean_rank", "explainer"], ignore_index=True)


def paired_differences(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    reference: str,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """How far `reference` is ahead of every other explainer of its models, image by image, on the ranked metrics.

    Returns:
        `PAIRED_COLUMNS`. `difference` is the mean over the images both have, in the metric's unit, positive where the
        reference is better. The verdict is "ahead" or "behind" where the interval leaves out zero, else "level";
        "unknown" with fewer than two images.
    """
    known = described(metrics)
    rows = []
    values = per_image(scores) if not scores.empty else pd.DataFrame(columns=[*_KEYS, "image_id", "value"])
    groups: Any = values.groupby(["model", "metric"], sort=True, observed=True)
    for (model, metric), group in groups:
        wide = group.pivot_table(index="image_id", columns="explainer", values="value", observed=True)
        if reference not in wide or not is_ranked(known.get(metric, {})):
            continue
        sign = 1.0 if known[metric]["direction"] == "higher" else -1.0
        for other in wide.columns.drop(reference):
            difference = (sign * (wide[reference] - wide[other])).dropna()
            low, high = bootstrap_ci(difference.to_numpy(), level, resamples, seed)
            mean = float(difference.mean()) if len(difference) else float("nan")
            rows.append((model, other, metric, mean, low, high, len(difference), _verdict(low, high)))
    return pd.DataFrame(rows, columns=list(PAIRED_COLUMNS))


def _verdict(low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return "unknown"
    if low > 0:
        return "ahead"
    return "behind" if high < 0 else "level"

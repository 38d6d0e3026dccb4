"""Mean ranks over metrics, their bootstrap intervals, and Friedman's test with Nemenyi's critical difference.

Raw values of different metrics are never averaged, only ranks within a metric (Demsar, JMLR 2006). Friedman's test by
scipy, Nemenyi's by scikit-posthocs; the metrics are its blocks.

Known limits: metrics of one run are no independent blocks (they judge the same maps), so that test and critical
difference are a guide to the eye rather than an inference; the intervals come from images (and seeds) alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.statistics.intervals import LEVEL, RESAMPLES, draws
from benchmarks.statistics.scores import blocks, described, ranked_names, sign, widened
from benchmarks.store.score_names import REFERENCES

RANK_COLUMNS = (
    "model", "explainer", "mean_rank", "best_rank", "worst_rank", "metrics", "contestants", "mean_rank_all",
    "metrics_all",
)  # fmt: skip
INTERVAL_COLUMNS = ("model", "explainer", "rank_low", "rank_high")
_BY = ["model", "explainer"]


def mean_ranks(
    summary: pd.DataFrame,
    families: Mapping[str, str] | None = None,
    gated: Collection[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Mean rank of each explainer within each model, best first.

    Args:
        summary: from `summarise`.
        families: metric name to family; adds one column of mean ranks per family that has ranked metrics.
        gated: (model, metric) left out of the mean rank; `mean_rank_all` counts them too.

    Returns:
        `RANK_COLUMNS`: mean, best and worst rank over `metrics` ranked metrics, and the number of contestants that were
        ranked; the mean with the gated ones; then the families, without them. Explainers without any rank are left out.
    """
    ranked = summary.dropna(subset=["rank"])
    if ranked.empty:
        return pd.DataFrame(columns=list(RANK_COLUMNS))
    out = [(model, metric) in set(gated) for model, metric in zip(ranked["model"], ranked["metric"], strict=True)]
    passed = ranked[~np.array(out)]
    table = ranked.groupby(_BY, observed=True)["rank"].agg(["mean", "count"]).reset_index()
    table.columns = pd.Index([*_BY, "mean_rank_all", "metrics_all"])
    table["contestants"] = table.groupby("model", observed=True)["explainer"].transform("count")
    counted = passed.groupby(_BY, observed=True)["rank"].agg(["mean", "min", "max", "count"]).reset_index()
    counted.columns = pd.Index(list(RANK_COLUMNS[:6]))
    table = table.merge(counted, on=_BY, how="left")
    table["metrics"] = table["metrics"].fillna(0).astype(int)
    table = table[list(RANK_COLUMNS)]
    family_of = passed["metric"].map(families or {})
    for family in dict.fromkeys(family_of.dropna()):
        means = passed[family_of == family].groupby(_BY, observed=True)["rank"].mean().rename(family)
        table = table.merge(means.reset_index(), on=_BY, how="left")
    return table.sort_values(["model", "mean_rank", "explainer"], ignore_index=True)


def rank_intervals(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    *,
    gated: Collection[tuple[str, str]] = (),
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    references: Collection[str] = REFERENCES,
) -> pd.DataFrame:
    """Percentile bootstrap intervals of the mean ranks, `INTERVAL_COLUMNS`.

    One draw of images (and seeds) serves all explainers and metrics of a resample; means, ranks and mean ranks are then
    made again. NaN with fewer than two images.
    """
    rows: list[tuple[Any, ...]] = []
    found = blocks(widened(scores)) if not scores.empty else {}
    known = described(metrics)
    for model in dict.fromkeys(names[0] for names in found):
        names = ranked_names(metrics, {n[2] for n in found if n[0] == model})
        wanted = [name for name in names if (model, name) not in set(gated)]
        explainers = sorted({n[1] for n in found if n[0] == model and n[1] not in references})
        means = _resampled_mean_ranks(found, known, model, explainers, wanted, resamples, seed)
        for explainer, column in zip(explainers, means.T, strict=True):
            if not np.isnan(column).all():
                low, high = np.nanquantile(column, [(1 - level) / 2, (1 + level) / 2])
                rows.append((model, explainer, float(low), float(high)))
    return pd.DataFrame(rows, columns=list(INTERVAL_COLUMNS))


def _resampled_mean_ranks(
    found: Mapping[tuple[str, str, str], np.ndarray],
    known: Mapping[str, Mapping[str, Any]],
    model: str,
    explainers: Sequence[str],
    metrics: Sequence[str],
    resamples: int,
    seed: int,
) -> np.ndarray:
    """Mean ranks (resamples, explainers); NaN where an explainer has no rank or there are too few images."""
    total, count = np.zeros((resamples, len(explainers))), np.zeros((resamples, len(explainers)))
    for metric in metrics:
        there = [place for place, name in enumerate(explainers) if (model, name, metric) in found]
        cells = np.stack([found[model, explainers[place], metric] for place in there])
        kept = [place for place, cell in zip(there, cells, strict=True) if not np.isnan(cell).all()]
        if not kept or cells.shape[2] < 2:
            continue
        means = _drawn_means(cells[[there.index(place) for place in kept]], resamples, seed)
        order = -sign(known[metric]) * np.nan_to_num(np.round(means, 12), nan=-sign(known[metric]) * np.inf)
        total[:, kept] += stats.rankdata(order, axis=1)
        count[:, kept] += 1
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _drawn_means(cells: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means (resamples, explainers) of cells (explainers, seeds, images), the same draws for all."""
    drawn_seeds, drawn_images = draws(*cells.shape[1:], resamples, seed)
    there = ~np.isnan(cells)
    flat = cells.shape[0] * cells.shape[1], cells.shape[2]
    shape = resamples, cells.shape[0], cells.shape[1]
    weights = drawn_seeds[:, None, :]
    total = ((drawn_images @ np.where(there, cells, 0.0).reshape(flat).T).reshape(shape) * weights).sum(2)
    count = ((drawn_images @ there.astype(np.float64).reshape(flat).T).reshape(shape) * weights).sum(2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


@dataclass(frozen=True)
class RankTest:
    """Friedman's test of a model's explainers over its metrics, and Nemenyi's critical difference.

    Attributes:
        model: of whose explanations.
        ranks: mean rank of each explainer, best first.
        blocks: number of metrics.
        statistic: Friedman's chi-squared, corrected for ties.
        p: of the statistic.
        concordance: Kendall's W, 0 (metrics disagree) to 1 (all give one order).
        critical: two mean ranks nearer than this are not told apart at 5 %.
        p_values: Nemenyi's p of each pair of explainers.
        left_out: explainers without a rank on every metric.
    """

    model: str
    ranks: pd.Series
    blocks: int
    statistic: float
    p: float
    concordance: float
    critical: float
    p_values: pd.DataFrame
    left_out: tuple[str, ...] = ()


def rank_test(
    summary: pd.DataFrame, model: str, gated: Collection[tuple[str, str]] = (), alpha: float = 0.05
) -> RankTest | None:
    """Friedman and Nemenyi on a model's ranks, metrics as blocks; None with fewer than 3 explainers or 2 metrics."""
    rows = summary[(summary["model"] == model) & summary["rank"].notna()]
    rows = rows[~rows["metric"].map(lambda name: (model, name) in set(gated)).astype(bool)]
    table = rows.pivot_table(index="metric", columns="explainer", values="rank", observed=True)
    partial = tuple(str(name) for name in table.columns[table.isna().any()])
    table = table.drop(columns=list(partial))
    count, k = table.shape
    if count < 2 or k < 3:
        return None
    from scikit_posthocs import posthoc_nemenyi_friedman

    # explainers without every metric are gone: rank the rest anew
    table = table.rank(axis=1)
    statistic, p = stats.friedmanchisquare(*table.to_numpy().T)
    critical = critical_difference(k, count, alpha)
    concordance = float(statistic) / (count * (k - 1))
    nemenyi = posthoc_nemenyi_friedman(table)
    means = table.mean().sort_values(kind="stable")
    return RankTest(model, means, count, float(statistic), float(p), concordance, critical, nemenyi, partial)


def critical_difference(k: int, count: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks of k contestants over `count` blocks: q sqrt(k (k + 1) / (6 count)).

    q is the studentised range quantile of k groups and infinite degrees of freedom, over sqrt(2).
    """
    q = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * count)))

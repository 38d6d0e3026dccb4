"""Mean ranks over metrics, their bootstrap intervals, and Friedman's test with Nemenyi's critical difference.

Raw values of different metrics are never averaged, only ranks within a metric (Demsar, JMLR 2006). Friedman's test is
scipy's, Nemenyi's is scikit-posthocs'; the metrics are the blocks of both.

Known limits: the metrics of a run judge the same maps and are no independent blocks, so read the test and the critical
difference as a guide and not as inference. The intervals cover the choice of images (and seeds) alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.statistics.intervals import DEFAULT, Resampling, draws
from benchmarks.statistics.scores import blocks_of, by_name, is_gated, rankable_names, sign
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
    """Compute the mean rank of each explainer within each model, best first.

    Args:
        summary: from `summarise`.
        families: metric name to family; adds a column of mean ranks for each family with ranked metrics.
        gated: (model, metric) left out of the mean rank; only `mean_rank_all` counts them.

    Returns:
        `RANK_COLUMNS`, then the families. `metrics` is the number of ranked metrics, `contestants` that of ranked
        explainers. Families leave gated metrics out. Explainers without any rank are left out.
    """
    ranked = summary.dropna(subset=["rank"])
    if ranked.empty:
        return pd.DataFrame(columns=list(RANK_COLUMNS))
    passed = ranked[~is_gated(ranked, gated)]
    table = ranked.groupby(_BY, observed=True)["rank"].agg(["mean", "count"]).reset_index()
    table.columns = pd.Index([*_BY, "mean_rank_all", "metrics_all"])
    table["contestants"] = table.groupby("model", observed=True)["explainer"].transform("count")
    without_gated = passed.groupby(_BY, observed=True)["rank"].agg(["mean", "min", "max", "count"]).reset_index()
    without_gated.columns = pd.Index(list(RANK_COLUMNS[:6]))
    table = table.merge(without_gated, on=_BY, how="left")
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
    resampling: Resampling = DEFAULT,
    references: Collection[str] = REFERENCES,
) -> pd.DataFrame:
    """Compute percentile bootstrap intervals of the mean ranks.

    One draw of images (and seeds) serves all explainers and metrics of a resample; means, ranks and mean ranks are then
    computed anew.

    Args:
        scores: long table.
        metrics: descriptions.
        gated: (model, metric) that are left out.
        resampling: settings of the bootstrap.
        references: explainers without a rank.

    Returns:
        `INTERVAL_COLUMNS`; explainers with fewer than two images have no row.
    """
    rows: list[tuple[Any, ...]] = []
    blocks, descriptions = blocks_of(scores), by_name(metrics)
    for model in dict.fromkeys(key[0] for key in blocks):
        names = rankable_names(metrics, {key[2] for key in blocks if key[0] == model})
        signs = {name: sign(descriptions[name]) for name in names if (model, name) not in set(gated)}
        cells = {key[1:]: block for key, block in blocks.items() if key[0] == model and key[1] not in references}
        explainers = sorted({explainer for explainer, _ in cells})
        means = _resample_mean_ranks(cells, explainers, signs, resampling)
        for explainer, column in zip(explainers, means.T, strict=True):
            if not np.isnan(column).all():
                rows.append((model, explainer, *resampling.interval(column)))
    return pd.DataFrame(rows, columns=list(INTERVAL_COLUMNS))


def _resample_mean_ranks(
    cells: Mapping[tuple[str, str], np.ndarray],
    explainers: Sequence[str],
    signs: Mapping[str, float],
    resampling: Resampling,
) -> np.ndarray:
    """Compute the mean ranks of each bootstrap sample of one model.

    Args:
        cells: blocks (seeds, images) by explainer and metric.
        explainers: order of the columns.
        signs: by ranked metric, 1 where higher is better, else -1.
        resampling: settings of the bootstrap.

    Returns:
        (resamples, explainers); NaN where an explainer has no rank or there are fewer than two images.
    """
    total, count = np.zeros((2, resampling.resamples, len(explainers)))
    for metric, direction in signs.items():
        columns = [
            column
            for column, explainer in enumerate(explainers)
            if not np.isnan(cells.get((explainer, metric), np.nan)).all()
        ]
        if not columns:
            continue
        blocks = np.stack([cells[explainers[column], metric] for column in columns])
        if blocks.shape[2] < 2:
            continue
        means = _resample_means(blocks, resampling)
        order = -direction * np.nan_to_num(np.round(means, 12), nan=-direction * np.inf)
        total[:, columns] += stats.rankdata(order, axis=1)
        count[:, columns] += 1
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _resample_means(blocks: np.ndarray, resampling: Resampling) -> np.ndarray:
    """Compute the means (resamples, explainers) of several blocks.

    The blocks are (explainers, seeds, images), and share their draws.
    """
    seed_counts, image_counts = draws(*blocks.shape[1:], resampling.resamples, resampling.seed)
    has_value = ~np.isnan(blocks)
    flat = blocks.shape[0] * blocks.shape[1], blocks.shape[2]
    shape = resampling.resamples, blocks.shape[0], blocks.shape[1]
    weights = seed_counts[:, None, :]
    total = ((image_counts @ np.where(has_value, blocks, 0.0).reshape(flat).T).reshape(shape) * weights).sum(2)
    count = ((image_counts @ has_value.astype(np.float64).reshape(flat).T).reshape(shape) * weights).sum(2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


@dataclass(frozen=True)
class RankTest:
    """Friedman's test of a model's explainers over its metrics, with Nemenyi's critical difference.

    Attributes:
        model: name of the explained network.
        ranks: mean rank of each explainer, best first.
        blocks: number of metrics.
        statistic: Friedman's chi-squared, corrected for ties.
        p: p value of the statistic.
        concordance: Kendall's W, 0 (metrics disagree) to 1 (all give one order).
        critical: two mean ranks nearer than this do not differ at 5 %.
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
    """Run Friedman's and Nemenyi's tests on the ranks of a model.

    The metrics are the blocks.

    Args:
        summary: from `summarise`.
        model: name of the network.
        gated: (model, metric) that are left out.
        alpha: level of the critical difference.

    Returns:
        The test; None with fewer than 3 explainers or 2 metrics.
    """
    rows = summary[(summary["model"] == model) & summary["rank"].notna()]
    rows = rows[~is_gated(rows, gated)]
    table = rows.pivot_table(index="metric", columns="explainer", values="rank", observed=True)
    partial = tuple(str(name) for name in table.columns[table.isna().any()])
    table = table.drop(columns=list(partial))
    count, k = table.shape
    if count < 2 or k < 3:
        return None
    from scikit_posthocs import posthoc_nemenyi_friedman

    # Explainers without every metric were dropped, so the others are ranked anew.
    table = table.rank(axis=1)
    statistic, p = stats.friedmanchisquare(*table.to_numpy().T)
    return RankTest(
        model=model,
        ranks=table.mean().sort_values(kind="stable"),
        blocks=count,
        statistic=float(statistic),
        p=float(p),
        concordance=float(statistic) / (count * (k - 1)),
        critical=critical_difference(k, count, alpha),
        p_values=posthoc_nemenyi_friedman(table),
        left_out=partial,
    )


def critical_difference(k: int, count: int, alpha: float = 0.05) -> float:
    """Compute Nemenyi's critical difference of mean ranks.

    It is q sqrt(k (k + 1) / (6 count)), where q is the quantile of the studentised range of k groups with infinite
    degrees of freedom, over sqrt(2).

    Args:
        k: number of contestants.
        count: number of blocks.
        alpha: level of the test.
    """
    q = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * count)))

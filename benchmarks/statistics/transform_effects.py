"""Effects of transforming maps: do scores and ranks change if maps are smoothed, coarsened or sharpened?

Removal tests favour blurred maps and mass metrics sharp ones (arXiv 2304.13836; ML-Att, arXiv 2303.11884). A rank that
changes with such a transform says as much about the transform as about the explainer.

Transformed maps are explainers named "NAME@TRANSFORM". They never compete with plain maps: plain and transformed maps
are ranked among the same explainers, those that have both. `best_transforms` asks whether a lead survives when every
explainer has the transform that suits it best.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.intervals import DEFAULT, Resampling, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks_of, by_name, is_gated, rankable_names, sign
from benchmarks.statistics.summary import rank_means
from benchmarks.store.score_names import REFERENCES, transform_of

EFFECT_COLUMNS = (
    "model", "transform", "explainer", "metric", "plain", "changed", "gain", "ci_low", "ci_high", "n", "rank_plain",
    "rank_changed",
)  # fmt: skip
RANK_CHANGE_COLUMNS = (
    "model", "transform", "explainer", "mean_rank_plain", "mean_rank_changed", "metrics", "contestants",
)  # fmt: skip
BEST_TRANSFORM_COLUMNS = ("model", "kind", "explainer", "chosen", "mean_rank", "metrics", "contestants")


def transform_effects(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    *,
    resampling: Resampling = DEFAULT,
    references: Collection[str] = REFERENCES,
) -> pd.DataFrame:
    """Compare each explainer with and without each transform on the ranked metrics.

    Args:
        scores: long table with plain explainers and "NAME@TRANSFORM".
        metrics: descriptions.
        resampling: settings of the intervals.
        references: explainers without a rank.

    Returns:
        `EFFECT_COLUMNS`. `plain` and `changed` are means over images. `gain` is the paired difference with its
        interval, positive where the transform improves the score. Ranks are among the explainers that have both.
    """
    blocks, descriptions = blocks_of(scores), by_name(metrics)
    ranked = set(rankable_names(metrics, {key[2] for key in blocks}))
    rows = []
    for (model, name, metric), block in blocks.items():
        explainer, transform = transform_of(name)
        plain = blocks.get((model, explainer, metric))
        if transform and plain is not None and metric in ranked:
            difference = sign(descriptions[metric]) * (block - plain)
            missing = np.isnan(difference)
            means = [image_mean(np.where(missing, np.nan, values)) for values in (plain, block)]
            low, high = hierarchical_ci(difference, resampling)
            rows.append((model, transform, explainer, metric, *means, image_mean(difference), low, high,
                         int((~missing).any(0).sum()), np.nan, np.nan))  # fmt: skip
    table = pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))
    contestants = table[~table["explainer"].isin(references)]
    groups: Any = contestants.groupby(["model", "transform", "metric"], observed=True)
    for (_, _, metric), group in groups:
        for column in ("plain", "changed"):
            ranks = rank_means(group[column].to_numpy(), str(descriptions[metric]["direction"]))
            table.loc[group.index, f"rank_{column}"] = ranks
    return table


def rank_changes(effects: pd.DataFrame, gated: Collection[tuple[str, str]] = ()) -> pd.DataFrame:
    """Compute the mean ranks with and without each transform.

    Args:
        effects: from `transform_effects`.
        gated: (model, metric) that are left out.

    Returns:
        `RANK_CHANGE_COLUMNS`, best transformed maps first.
    """
    ranked = effects[~is_gated(effects, gated)].dropna(subset=["rank_plain", "rank_changed"])
    if ranked.empty:
        return pd.DataFrame(columns=list(RANK_CHANGE_COLUMNS))
    groups = ranked.groupby(["model", "transform", "explainer"], observed=True)
    changes = groups.agg(
        mean_rank_plain=("rank_plain", "mean"), mean_rank_changed=("rank_changed", "mean"), metrics=("metric", "count")
    ).reset_index()
    changes["contestants"] = changes.groupby(["model", "transform"], observed=True)["explainer"].transform("count")
    return changes.sort_values(["model", "transform", "mean_rank_changed", "explainer"], ignore_index=True)


def best_transforms(effects: pd.DataFrame, metrics: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rank the explainers, each with the transform that suits it best.

    Within one kind of transform, such as all exponents, an explainer takes the transform, or none, with the least mean
    rank among all explainers in all their forms. The choice is made on the images that are judged, for every explainer
    alike.

    Args:
        effects: from `transform_effects`.
        metrics: descriptions.

    Returns:
        `BEST_TRANSFORM_COLUMNS`. `chosen` is the name of the transform, "" for none; `metrics` and `contestants` are
        counts.
    """
    directions = {name: str(entry.get("direction")) for name, entry in by_name(metrics).items()}
    ranked = effects.dropna(subset=["rank_plain", "rank_changed"])
    rows = []
    groups: Any = ranked.assign(kind=ranked["transform"].str.extract(r"^([a-z]*)", expand=False)).groupby(
        ["model", "kind"], observed=True
    )
    for (model, kind), group in groups:
        means = _form_means(group)
        ranks = _mean_ranks(means, directions)
        best = {name: ranks[name].idxmin() for name in means.index.unique("explainer")}
        final = _mean_ranks(means.loc[list(best.items())], directions)
        rows += [(model, kind, name, form, final[name, form], means.shape[1], len(best))
                 for name, form in best.items()]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(BEST_TRANSFORM_COLUMNS))
    return table.sort_values(["model", "kind", "mean_rank", "explainer"], ignore_index=True)


def _form_means(group: pd.DataFrame) -> pd.DataFrame:
    """Return means by (explainer, transform) and metric.

    Plain maps have transform "" and come first.
    """
    plain = group.drop_duplicates(["explainer", "metric"]).assign(transform="", changed=lambda rows: rows["plain"])
    both = pd.concat([plain, group], ignore_index=True)
    return both.pivot_table(index=["explainer", "transform"], columns="metric", values="changed").dropna()


def _mean_ranks(means: pd.DataFrame, directions: Mapping[str, str]) -> pd.Series:
    ranks = {metric: rank_means(column.to_numpy(), directions[str(metric)]) for metric, column in means.items()}
    return pd.DataFrame(ranks, index=means.index).mean(axis=1)

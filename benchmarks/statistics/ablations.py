"""What smoothing, coarsening or sharpening the maps does to scores and ranks.

Removal tests favour blurred maps and mass metrics sharp ones (arXiv 2304.13836; ML-Att, arXiv 2303.11884), so that a
rank that changes with such a transform belongs to the transform as much as to the explainer. Transformed maps are
explainers named "NAME@TRANSFORM". They never compete with plain ones: before and after are ranked among the same
explainers, those that have both. An explainer that leads only since a transform suits it loses its lead once every
explainer has the transform that suits it best: `at_best`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.intervals import LEVEL, RESAMPLES, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks, described, ranked_names, sign, widened
from benchmarks.statistics.summary import rank_means
from benchmarks.store.score_names import REFERENCES, transform_of

ABLATION_COLUMNS = (
    "model", "transform", "explainer", "metric", "plain", "changed", "gain", "ci_low", "ci_high", "n", "rank_plain",
    "rank_changed",
)  # fmt: skip
SUITED_COLUMNS = ("model", "kind", "explainer", "chosen", "mean_rank", "metrics", "contestants")
SHIFT_COLUMNS = ("model", "transform", "explainer", "mean_rank_plain", "mean_rank_changed", "metrics", "contestants")


def ablations(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    references: Collection[str] = REFERENCES,
) -> pd.DataFrame:
    """`ABLATION_COLUMNS`: each explainer with and without each transform on the ranked metrics.

    Args:
        scores: long table with plain explainers and "NAME@TRANSFORM".
        metrics: descriptions.
        level: coverage of the intervals.
        resamples: bootstrap samples.
        seed: of the resampling.
        references: explainers without a rank.

    Returns:
        `plain` and `changed` are means over images; `gain` is the paired difference, positive where the transform
        improves the score, with its interval; ranks are those among the explainers that have both.
    """
    found = blocks(widened(scores)) if not scores.empty else {}
    known, counted = described(metrics), set(ranked_names(metrics, {names[2] for names in found}))
    rows = []
    for (model, name, metric), block in found.items():
        explainer, transform = transform_of(name)
        plain = found.get((model, explainer, metric))
        if transform and plain is not None and metric in counted:
            difference = sign(known[metric]) * (block - plain)
            both = np.where(np.isnan(difference), np.nan, plain), np.where(np.isnan(difference), np.nan, block)
            low, high = hierarchical_ci(difference, level, resamples, seed)
            count = int((~np.isnan(difference)).any(0).sum())
            rows.append((model, transform, explainer, metric, *map(image_mean, both), image_mean(difference),
                         low, high, count, np.nan, np.nan))  # fmt: skip
    table = pd.DataFrame(rows, columns=list(ABLATION_COLUMNS))
    ranked = table[~table["explainer"].isin(references)]
    groups: Any = ranked.groupby(["model", "transform", "metric"], observed=True)
    for (_, _, metric), group in groups:
        for when in ("plain", "changed"):
            ranks = rank_means(group[when].to_numpy(), str(known[metric]["direction"]))
            table.loc[group.index, f"rank_{when}"] = ranks
    return table


def rank_shifts(table: pd.DataFrame, gated: Collection[tuple[str, str]] = ()) -> pd.DataFrame:
    """`SHIFT_COLUMNS`: mean ranks before and after each transform, gated (model, metric) left out; from `ablations`."""
    out = [(model, metric) in set(gated) for model, metric in zip(table["model"], table["metric"], strict=True)]
    ranked = table[~np.array(out, dtype=bool)].dropna(subset=["rank_plain", "rank_changed"])
    if ranked.empty:
        return pd.DataFrame(columns=list(SHIFT_COLUMNS))
    groups = ranked.groupby(["model", "transform", "explainer"], observed=True)
    shifts = groups.agg(
        mean_rank_plain=("rank_plain", "mean"), mean_rank_changed=("rank_changed", "mean"), metrics=("metric", "count")
    ).reset_index()
    shifts["contestants"] = shifts.groupby(["model", "transform"], observed=True)["explainer"].transform("count")
    return shifts.sort_values(["model", "transform", "mean_rank_changed", "explainer"], ignore_index=True)


def at_best(table: pd.DataFrame, metrics: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """`SUITED_COLUMNS`: mean ranks where each explainer is plain or transformed, as suits it best; from `ablations`.

    Of one kind of transform, such as all exponents, an explainer takes the one, or none, with the least mean rank among
    all explainers in all forms. This is chosen on the images it is judged on, for every explainer alike.

    Args:
        table: from `ablations`.
        metrics: descriptions.

    Returns:
        `chosen` is the transform's name, "" for none; `metrics` and `contestants` say how many.
    """
    known = described(metrics)
    ranked = table.dropna(subset=["rank_plain", "rank_changed"])
    rows = []
    groups: Any = ranked.assign(kind=ranked["transform"].str.extract(r"^([a-z]*)", expand=False)).groupby(
        ["model", "kind"], observed=True
    )
    for (model, kind), group in groups:
        forms = _forms(group)
        among = _mean_ranks(forms, known)
        chosen = {name: among[name].idxmin() for name in forms.index.unique("explainer")}
        final = _mean_ranks(forms.loc[list(chosen.items())], known)
        rows += [(model, kind, name, form, final[name, form], forms.shape[1], len(chosen))
                 for name, form in chosen.items()]  # fmt: skip
    found = pd.DataFrame(rows, columns=list(SUITED_COLUMNS))
    return found.sort_values(["model", "kind", "mean_rank", "explainer"], ignore_index=True)


def _forms(group: pd.DataFrame) -> pd.DataFrame:
    """Means by (explainer, transform) and metric, plain maps as transform "", which comes first."""
    plain = group.drop_duplicates(["explainer", "metric"]).assign(transform="", changed=lambda rows: rows["plain"])
    both = pd.concat([plain, group], ignore_index=True)
    return both.pivot_table(index=["explainer", "transform"], columns="metric", values="changed").dropna()


def _mean_ranks(forms: pd.DataFrame, known: Mapping[str, Mapping[str, Any]]) -> pd.Series:
    ranks = {
        metric: rank_means(means.to_numpy(), str(known[str(metric)]["direction"])) for metric, means in forms.items()
    }
    return pd.DataFrame(ranks, index=forms.index).mean(axis=1)

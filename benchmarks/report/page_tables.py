"""The tables of one network on the page, as plain values for the templates.

Each function returns the texts that the page shows. Numbers that a column is sorted by stand beside their texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import format
from benchmarks.report.files import best_rows
from benchmarks.report.verdict import Standing, position, standings
from benchmarks.statistics import most_reliable_metric
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.run_data import FAMILIES, JUDGED, ExplainerInfo, MetricInfo, ModelInfo

KINDS = {
    "intrinsic": "the network's own", "amortised": "learned beside the network",
    "optimised": "optimised on the image", "external": "external", "control": "control",
}  # fmt: skip
COSTS = (("forwards", "Forward passes"), ("backwards", "Backward passes"), ("seconds", "Time"))
Row = dict[str, Any]


def card(analysis: RunAnalysis, model: ModelInfo) -> Row:
    """Compare the winner on a network with the runner-up.

    The own explainer is added where it is neither.

    Returns:
        The name and title of the network, its number of contestants, the columns (explainer, position), and rows of
        (label, note, cells). A cell is (text, text below it, whether it is the best of its row). Columns and rows are
        empty where nothing is ranked.
    """
    contestants = standings(analysis, model.name)
    compared = contestants[:2] + [row for row in contestants[2:] if row.explainer == analysis.own_explainer]
    columns = [
        {
            "title": analysis.title(row.explainer),
            "position": format.ordinal(position(contestants, row.explainer)),
            "control": analysis.data.explainers[row.explainer].control,
            "own": row.explainer == analysis.own_explainer,
        }
        for row in compared
    ]
    rows = (
        [*_rank_rows(analysis, model.name, compared), *_cost_rows(analysis, model.name, compared)] if compared else []
    )
    return {"name": model.name, "title": model.title, "columns": columns, "rows": rows, "total": len(contestants)}


def _rank_rows(analysis: RunAnalysis, model: str, compared: Sequence[Standing]) -> Iterator[Row]:
    # the interval stands below its mean rank
    cells = [(format.decimals(row.mean_rank), _span(row.low, row.high)) for row in compared]
    best = _best([row.mean_rank for row in compared], "lower")
    yield {
        "label": "Mean rank", "note": f"1 is best; over {format.plural(compared[0].metrics, 'metric')}",
        "cells": [(text, span, flag) for (text, span), flag in zip(cells, best, strict=True)],
    }  # fmt: skip
    for family in JUDGED:
        ranks = [analysis.rank(model, row.explainer, family) for row in compared]
        if not np.isnan(ranks).all():
            yield {
                "label": family.capitalize(), "note": "mean rank",
                "cells": [
                    (format.decimals(rank), "", flag) for rank, flag in zip(ranks, _best(ranks, "lower"), strict=True)
                ],
            }  # fmt: skip
            yield from _typical_score(analysis, model, family, compared)


def _typical_score(analysis: RunAnalysis, model: str, family: str, compared: Sequence[Standing]) -> Iterator[Row]:
    """Yield the scores of the metric of a family on which the images agree most."""
    names = [info.name for info in analysis.metrics(family)]
    table = analysis.reliability[analysis.reliability["metric"].isin(names)]
    name = most_reliable_metric(table, analysis.gates, model)
    if name is None:
        return
    metric = analysis.data.metrics[name]
    rows = [analysis.row(model, row.explainer, name) for row in compared]
    means = [float(row["mean"]) if row is not None else float("nan") for row in rows]
    yield {
        "label": metric.title, "note": f"{metric.direction} is better", "detail": True,
        "cells": [
            (format.number(mean), "", flag) for mean, flag in zip(means, _best(means, metric.direction), strict=True)
        ],
    }  # fmt: skip


def _cost_rows(analysis: RunAnalysis, model: str, compared: Sequence[Standing]) -> Iterator[Row]:
    for name, label in COSTS:
        rows = [analysis.row(model, row.explainer, name) for row in compared]
        values = [float(row["mean"]) if row is not None else float("nan") for row in rows]
        if not np.isnan(values).all():
            write = format.duration if name == "seconds" else format.count
            yield {
                "label": label, "note": "per image",
                "cells": [
                    (write(value), "", flag) for value, flag in zip(values, _best(values, "lower"), strict=True)
                ],
            }  # fmt: skip


def _best(values: Sequence[float], direction: str) -> list[bool]:
    """Flag the best values; none where all are equal."""
    finite = [value for value in values if np.isfinite(value)]
    if len(set(finite)) < 2:
        return [False] * len(values)
    top = min(finite) if direction == "lower" else max(finite)
    return [value == top for value in values]


def leaderboard(analysis: RunAnalysis, model: ModelInfo) -> Row:
    """List mean ranks with intervals, ranks by family and costs; controls last."""
    table = analysis.ranks[analysis.ranks["model"] == model.name].set_index("explainer")
    families = [family for family in JUDGED if family in table and table[family].notna().any()]
    is_gated = len(table) and (table["metrics"] != table["metrics_all"]).any()
    explainers = {explainer for name, explainer, _ in analysis.keys if name == model.name}
    rows = [
        _leaderboard_row(analysis, model.name, info, table, families)
        for info in analysis.explainers()
        if info.name in explainers
    ]
    rows.sort(key=lambda row: (row["control"], np.isnan(row["mean"]), row["mean"]))
    return {"title": model.title, "families": families, "rows": rows, "gated": bool(is_gated)}


def _leaderboard_row(
    analysis: RunAnalysis, model: str, info: ExplainerInfo, table: pd.DataFrame, families: Sequence[str]
) -> Row:
    cost_rows = [analysis.row(model, info.name, cost) for cost in ("forwards", "seconds")]
    costs = [float(row["mean"]) if row is not None else float("nan") for row in cost_rows]
    ranks: Any = table.loc[info.name] if info.name in table.index else {}
    value = {name: float(ranks.get(name, np.nan)) for name in ("mean_rank", "rank_low", "rank_high", "mean_rank_all")}
    return {
        "title": info.title, "kind": KINDS.get(info.kind, info.kind), "control": info.control,
        "own": info.name == analysis.own_explainer, "mean": value["mean_rank"], "all": value["mean_rank_all"],
        "span": _span(value["rank_low"], value["rank_high"]) or format.DASH,
        "families": [float(ranks.get(family, np.nan)) for family in families],
        "forwards": format.count(costs[0]), "seconds": format.duration(costs[1]), "costs": costs,
    }  # fmt: skip


def _span(low: float, high: float) -> str:
    return "" if np.isnan([low, high]).any() else f"{format.decimals(low)} to {format.decimals(high)}"


def score_table(analysis: RunAnalysis, model: ModelInfo, families: Sequence[str] = FAMILIES) -> Row:
    """List the mean with interval of every score on one network, the best in bold."""
    metrics = [info for family in families for info in analysis.metrics(family)]
    best = best_rows(analysis)
    rows = []
    for info in analysis.explainers():
        scores = [analysis.row(model.name, info.name, metric.name) for metric in metrics]
        if any(row is not None for row in scores):
            cells = [
                (_mean_with_interval(row, metric), row.name in best, float(row["mean"]))
                if row is not None
                else (format.DASH, False, float("nan"))
                for row, metric in zip(scores, metrics, strict=True)
            ]
            rows.append({"title": info.title, "control": info.control, "cells": cells})
    return {"title": model.title, "metrics": metrics, "rows": rows}


def _mean_with_interval(row: pd.Series, metric: MetricInfo) -> str:
    write = format.duration_interval if metric.name == "seconds" else format.interval
    return write(row["mean"], row["ci_low"], row["ci_high"])


def checks(analysis: RunAnalysis, model: ModelInfo) -> Row:
    """List the means of the checks on one network, and whether they are passed."""
    metrics = analysis.metrics("check")
    lines = []
    for info in analysis.explainers():
        scores = [analysis.row(model.name, info.name, metric.name) for metric in metrics]
        if any(row is not None for row in scores):
            cells = [_check(row, metric) for row, metric in zip(scores, metrics, strict=True)]
            lines.append({"title": info.title, "control": info.control, "cells": cells})
    heads = [(metric.title, format.number(metric.passing, 2), metric.direction) for metric in metrics]
    return {"title": model.title, "heads": heads, "lines": lines}


def _check(row: pd.Series | None, metric: MetricInfo) -> tuple[str, str, float]:
    """Return the text of a check, its outcome, and the mean to sort by.

    The outcome is "passed", "failed", or empty where no bound is known.
    """
    if row is None:
        return format.DASH, "", float("nan")
    text, mean = format.interval(row["mean"], row["ci_low"], row["ci_high"]), float(row["mean"])
    if np.isnan(metric.passing) or np.isnan(mean) or metric.direction not in ("higher", "lower"):
        return text, "", mean
    is_passed = mean >= metric.passing if metric.direction == "higher" else mean <= metric.passing
    return text, "passed" if is_passed else "failed", mean


def comparisons(analysis: RunAnalysis, model: ModelInfo) -> Row:
    """List the paired differences of the own explainer on one network, with p and effect size."""
    table = analysis.paired[analysis.paired["model"] == model.name]
    rows = [
        {
            "other": analysis.title(row.explainer), "metric": analysis.data.metrics[row.metric].title,
            "difference": format.interval(row.difference, row.ci_low, row.ci_high), "verdict": row.verdict,
            "p": format.probability(row.p_holm), "effect": format.number(row.rank_biserial, 2), "n": row.n,
            "sort": (row.difference, row.p_holm, row.rank_biserial),
        }
        for row in rows_of(table)
    ]  # fmt: skip
    return {"title": model.title, "rows": rows}


def rows_of(table: pd.DataFrame) -> Iterator[Any]:
    """Iterate over the rows of a table, columns as attributes."""
    return iter(table.itertuples())

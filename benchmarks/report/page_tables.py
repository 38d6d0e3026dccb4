"""The tables of the page: each function gives what the template shows, texts ready and sortable numbers beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import format
from benchmarks.report.files import best_rows
from benchmarks.statistics import SIZES
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.statistics.gate import PASSED
from benchmarks.store.run_data import FAMILIES, JUDGED, UNRANKED, ExplainerInfo, MetricInfo, ModelInfo
from benchmarks.store.score_names import REFERENCES

KINDS = {"intrinsic": "the network's own", "external": "external", "control": "control"}
Row = dict[str, Any]


def leaderboard(findings: RunAnalysis, model: ModelInfo) -> Row:
    """Mean ranks with intervals, by family, with and without gated metrics, and cost; controls last."""
    table = findings.ranks[findings.ranks["model"] == model.name].set_index("explainer")
    families = [family for family in JUDGED if family in table and table[family].notna().any()]
    gated = len(table) and (table["metrics"] != table["metrics_all"]).any()
    measured = {name for owner, name, _ in findings.keys if owner == model.name}
    rows = [
        _leader(findings, model.name, info, table, families) for info in findings.explainers() if info.name in measured
    ]
    rows.sort(key=lambda row: (row["control"], np.isnan(row["mean"]), row["mean"]))
    return {"title": model.title, "families": families, "rows": rows, "gated": bool(gated)}


def _leader(findings: RunAnalysis, model: str, info: ExplainerInfo, table: pd.DataFrame, families: list[str]) -> Row:
    costs = [findings.row(model, info.name, cost) for cost in ("forwards", "seconds")]
    numbers = [float(row["mean"]) if row is not None else float("nan") for row in costs]
    known: Any = table.loc[info.name] if info.name in table.index else {}
    value = {name: float(known.get(name, np.nan)) for name in ("mean_rank", "rank_low", "rank_high", "mean_rank_all")}
    span = format.DASH
    if not np.isnan(value["rank_low"]):
        span = f"{format.fixed(value['rank_low'])} to {format.fixed(value['rank_high'])}"
    return {
        "title": info.title, "kind": KINDS.get(info.kind, info.kind), "control": info.control,
        "own": info.name == findings.own_explainer, "mean": value["mean_rank"], "span": span,
        "all": value["mean_rank_all"],
        "families": [float(known.get(family, np.nan)) for family in families],
        "forwards": format.plain(numbers[0]), "seconds": format.short_time(numbers[1]), "costs": numbers,
    }  # fmt: skip


def score_table(findings: RunAnalysis, model: ModelInfo, families: tuple[str, ...] = FAMILIES) -> Row:
    """Mean with interval of every score on one model, the best in bold."""
    metrics = [info for family in families for info in findings.metrics(family)]
    best = best_rows(findings)
    rows = []
    for info in findings.explainers():
        found = [findings.row(model.name, info.name, metric.name) for metric in metrics]
        if any(row is not None for row in found):
            cells = [
                (format.interval(row["mean"], row["ci_low"], row["ci_high"]), row.name in best, float(row["mean"]))
                if row is not None
                else (format.DASH, False, float("nan"))
                for row in found
            ]
            rows.append({"title": info.title, "control": info.control, "cells": cells})
    return {"title": model.title, "metrics": metrics, "rows": rows}


def checks(findings: RunAnalysis, model: ModelInfo) -> Row:
    """Means of the checks on one model, and whether they are passed."""
    metrics = findings.metrics("check")
    lines = []
    for info in findings.explainers():
        found = [findings.row(model.name, info.name, metric.name) for metric in metrics]
        if any(row is not None for row in found):
            cells = [_check(row, metric) for row, metric in zip(found, metrics, strict=True)]
            lines.append({"title": info.title, "control": info.control, "cells": cells})
    heads = [(metric.title, format.number(metric.passing, 2), metric.direction) for metric in metrics]
    return {"title": model.title, "heads": heads, "lines": lines}


def _check(row: pd.Series | None, metric: MetricInfo) -> tuple[str, str, float]:
    """Mean with interval, "passed" or "failed" (empty where no bound is known), and the mean to sort by."""
    if row is None:
        return format.DASH, "", float("nan")
    text, mean = format.interval(row["mean"], row["ci_low"], row["ci_high"]), float(row["mean"])
    if np.isnan(metric.passing) or np.isnan(mean) or metric.direction not in ("higher", "lower"):
        return text, "", mean
    passed = mean >= metric.passing if metric.direction == "higher" else mean <= metric.passing
    return text, "passed" if passed else "failed", mean


def comparisons(findings: RunAnalysis, model: ModelInfo) -> Row:
    """Paired differences of the own explainer on one model, with p and effect size."""
    table = findings.paired[findings.paired["model"] == model.name]
    rows = [
        {
            "other": findings.title(row.explainer), "metric": findings.data.metrics[row.metric].title,
            "difference": format.interval(row.difference, row.ci_low, row.ci_high), "verdict": row.verdict,
            "p": format.probability(row.p_holm), "effect": format.number(row.rank_biserial, 2), "n": row.n,
            "sort": (row.difference, row.p_holm, row.rank_biserial),
        }
        for row in _each(table)
    ]  # fmt: skip
    return {"title": model.title, "rows": rows}


def gates(findings: RunAnalysis) -> list[Row]:
    """One table a model: verdict, reason and reliability of each ranked metric."""
    trusted = {(row.model, row.metric): row for row in _each(findings.reliability)}
    found = []
    for model, table in findings.gates.groupby("model", sort=False):
        lines = []
        for gate in _each(table):
            row = trusted.get((gate.model, gate.metric))
            numbers = [getattr(row, name, float("nan")) for name in ("image_agreement", "split_half", "test_retest")]
            lines.append(
                {
                    "metric": findings.data.metrics[gate.metric].title, "verdict": gate.verdict, "numbers": numbers,
                    "means": [(value, format.number(value)) for value in (gate.mask, gate.methods, gate.chance)],
                    "reason": format.DASH if gate.verdict == PASSED else gate.reason,
                }
            )  # fmt: skip
        found.append({"title": _model(findings, str(model)), "lines": lines})
    return found


def agreements(findings: RunAnalysis) -> list[Row]:
    """One matrix a model: rank correlation of the methods' orders by two metrics."""
    found = []
    for model in findings.models():
        table = findings.agreement[findings.agreement["model"] == model.name].dropna(subset=["correlation"])
        names = [name for name in findings.data.metrics if name in {*table["metric"], *table["other"]}]
        known = {frozenset((row.metric, row.other)): row.correlation for row in _each(table)}
        lines = [
            (findings.data.metrics[one].title, [known.get(frozenset((one, other)), float("nan")) for other in names])
            for one in names
        ]
        variants = [
            f"{findings.data.metrics[row.metric].title} ({row.variants}): {format.number(row.correlation, 2)}"
            for row in _each(table[table["variants"] != ""])
        ]
        titles = [findings.data.metrics[name].title for name in names]
        methods = int(table["methods"].max()) if len(table) else 0
        if names:
            found.append(
                {"title": model.title, "names": titles, "lines": lines, "variants": variants, "methods": methods}
            )
    return found


def sizes(findings: RunAnalysis) -> list[Row]:
    """One table a model and ranked metric that reads the evidence: mean of each third."""
    found = []
    judged = {info.name: info.title for info in findings.data.metrics.values() if info.family == "localisation"}
    groups: Any = findings.sizes.groupby(["model", "metric"], sort=False)
    for (model, metric), table in groups:
        if metric not in judged:
            continue
        heads = [
            f"{row.size} ({format.percent(row.least)} to {format.percent(row.most)})"
            for row in _each(table.drop_duplicates("size"))
        ]
        lines = []
        for explainer, rows in table.groupby("explainer", sort=False):
            by = rows.set_index("size").reindex([size for size in SIZES if size in set(table["size"])])
            cells = [format.interval(row.mean, row.ci_low, row.ci_high) for row in _each(by)]
            lines.append((findings.title(str(explainer)), cells))
        found.append({"title": f"{judged[metric]}, {_model(findings, model)}", "heads": heads, "lines": lines})
    return found


def ablations(findings: RunAnalysis) -> list[Row]:
    """One table a model and transform: ranks before and after, and the paired gain on each metric."""
    found = []
    known = {entry.get("name"): f" ({entry.get('title')})" for entry in findings.data.part("ablations", [])}
    groups: Any = findings.transform_effects.groupby(["model", "transform"], sort=False)
    for (model, transform), table in groups:
        metrics = list(dict.fromkeys(table["metric"]))
        shifts = findings.rank_changes[
            (findings.rank_changes["model"] == model) & (findings.rank_changes["transform"] == transform)
        ]
        ranks = shifts.set_index("explainer")
        lines = []
        for explainer, rows in table.groupby("explainer", sort=False):
            by = rows.set_index("metric").reindex(metrics)
            rank: Any = ranks.loc[explainer] if explainer in ranks.index else {}
            before, after = (rank.get(f"mean_rank_{when}", float("nan")) for when in ("plain", "changed"))
            cells = [_changed(row) for row in _each(by)]
            lines.append({"title": findings.title(str(explainer)), "before": before, "after": after, "cells": cells})
        lines.sort(key=lambda line: (np.isnan(line["before"]), line["before"]))
        titles = [findings.data.metrics[name].title for name in metrics]
        found.append(
            {
                "title": f"{transform}{known.get(transform, '')}, {_model(findings, model)}",
                "metrics": titles,
                "lines": lines,
            }
        )
    return found


def _changed(row: Any) -> tuple[str, str]:
    """Scores before and after, and whether the change is more than the choice of images."""
    if np.isnan(row.plain):
        return format.DASH, ""
    told = "better" if row.ci_low > 0 else "worse" if row.ci_high < 0 else "level"
    return f"{format.number(row.plain)} → {format.number(row.changed)}", told


def arms(findings: RunAnalysis) -> Row:
    """Each network's own explanation and its best external one, on the scale from random (0) to mask (1)."""
    table = findings.relative
    metrics = [name for name in findings.data.metrics if name in set(table["metric"])]
    known = {(row.model, row.explainer, row.metric): row.relative for row in _each(table)}
    lines = []
    for model in findings.models():
        ranked = findings.ranks[findings.ranks["model"] == model.name].dropna(subset=["mean_rank"])
        external = [
            name for name in ranked["explainer"] if name in findings.data.methods and name != findings.own_explainer
        ]
        own = [findings.own_explainer] if findings.own_explainer in set(ranked["explainer"]) else []
        for name in [*own, *external[:1]]:
            cells = [known.get((model.name, name, metric), float("nan")) for metric in metrics]
            what = "own" if name == findings.own_explainer else "best external"
            lines.append({"model": model.title, "title": findings.title(str(name)), "what": what, "cells": cells})
    return {"metrics": [findings.data.metrics[name].title for name in metrics], "lines": lines if metrics else []}


def degenerate(findings: RunAnalysis) -> list[Row]:
    """Maps that say nothing, one row an explainer, one count a model."""
    table = findings.degenerate
    models = [info for info in findings.data.models.values() if info.name in set(table["model"])]
    counts = {(row.model, row.explainer): f"{row.degenerate} of {row.total}" for row in _each(table)}
    bad = set(table[table["degenerate"] > 0]["explainer"])
    return [
        {
            "title": info.title,
            "counts": [(model.title, counts.get((model.name, info.name), format.DASH)) for model in models],
            "bad": info.name in bad,
        }
        for info in findings.data.explainers.values()
        if info.name in set(table["explainer"])
    ]


def audit(findings: RunAnalysis) -> list[Row]:
    """Scores computed a second time by another engine: the largest differences."""
    return [
        {
            "metric": _metric(findings, entry.get("metric")), "model": _model(findings, str(entry.get("model"))),
            "explainer": findings.title(str(entry.get("explainer"))), "images": entry.get("images"),
            "engine": entry.get("engine"), "largest": _small(entry.get("largest")),
        }
        for entry in findings.data.part("audit", [])
    ]  # fmt: skip


def measured(info: MetricInfo) -> Row:
    """What a metric is."""
    better = {"higher": "higher", "lower": "lower"}.get(info.direction, format.DASH)
    limits = f"{format.plain(info.low)} to {format.plain(info.high)}"
    span = (
        format.DASH if not np.isfinite([info.low, info.high]).any() else limits.replace(f"to {format.DASH}", "and up")
    )
    counted = info.ranked and info.family not in UNRANKED
    return {"info": info, "better": better, "span": span, "counted": "yes" if counted else "no"}


def explained(findings: RunAnalysis, info: ExplainerInfo) -> Row:
    """What an explainer is, and where its maps are doubtful."""
    settings = ", ".join(f"{key} = {value}" for key, value in dict(info.params).items())
    doubts = [(_model(findings, model), text) for model, text in dict(info.caveats).items() if text]
    return {
        "info": info, "kind": KINDS.get(info.kind, info.kind), "settings": settings or format.DASH,
        "ranked": info.name not in REFERENCES, "doubts": doubts,
    }  # fmt: skip


def _each(table: pd.DataFrame) -> Iterator[Any]:
    """Rows of a table, columns as attributes."""
    return iter(table.itertuples())


def _small(value: Any) -> str:
    try:
        return f"{float(value):.1e}" if value else format.number(value)
    except (TypeError, ValueError):
        return format.DASH


def _model(findings: RunAnalysis, name: str) -> str:
    info = findings.data.models.get(name)
    return info.title if info else name


def _metric(findings: RunAnalysis, name: Any) -> str:
    info = findings.data.metrics.get(str(name))
    return info.title if info else str(name)

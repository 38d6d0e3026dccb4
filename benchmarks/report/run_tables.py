"""The tables of a whole run on the page, as plain values for the templates.

Each function returns the texts that the page shows. Numbers that a column is sorted by stand beside their texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.report import format
from benchmarks.report.page_tables import KINDS, Row, rows_of
from benchmarks.statistics import SIZES
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.statistics.gate import PASSED
from benchmarks.store.record import PairRecord
from benchmarks.store.run_data import ExplainerInfo, MetricInfo
from benchmarks.store.score_names import REFERENCES, UNRANKED_FAMILIES


def pair_tests(analysis: RunAnalysis) -> list[Row]:
    """List shares on the cue in both networks of each pair, with the proof of the pair or why it is refused."""
    boards = []
    for name in dict.fromkeys(entry.name for entry in analysis.data.record.pairs):
        entries = [entry for entry in analysis.data.record.pairs if entry.name == name]
        rows = [_pair_row(analysis, row) for row in rows_of(analysis.pairs[analysis.pairs["pair"] == name])]
        title = f"{name}, {_model_title(analysis, entries[0].model)}"
        boards.append({"title": title, "sentences": [_proof(entry) for entry in entries], "rows": rows})
    return boards


def _proof(entry: PairRecord) -> str:
    seed = f"Training {entry.seed}: "
    if entry.held_out is None:
        return f"{seed}{entry.refused}."
    proof = (
        f"{seed}on {entry.held_out} held-out images, the cue was swapped for that of another class. That turned "
        f"{format.percent(entry.user_follows)} of the user's right answers into that class, and "
        f"{format.percent(entry.twin_follows)} of its twin's."
    )
    return f"{proof} Refused and not scored: {entry.refused}." if entry.refused else proof


def _pair_row(analysis: RunAnalysis, row: Any) -> Row:
    info = analysis.data.explainers[row.explainer]
    ahead = [format.percent(value) for value in _span_of(row, "ahead")]
    cells = [
        (format.number(row.user), row.user),
        (format.number(row.twin), row.twin),
        (format.interval(*_span_of(row, "ratio")), row.ratio),
        (format.interval(*_span_of(row, "ratio_of_means")), row.ratio_of_means),
        (f"{ahead[0]} [{ahead[1]}, {ahead[2]}]", row.ahead),
        (f"{row.empty} of {row.n}", row.empty),
    ]
    return {"title": info.title, "own": info.name == analysis.own_explainer, "control": info.control, "cells": cells}


def _span_of(row: Any, name: str) -> tuple[float, float, float]:
    """Return a value of a row and its interval."""
    return getattr(row, name), getattr(row, f"{name}_low"), getattr(row, f"{name}_high")


def gates(analysis: RunAnalysis) -> list[Row]:
    """List gate and reliability of each ranked metric, by network."""
    reliability = {(row.model, row.metric): row for row in rows_of(analysis.reliability)}
    boards = []
    for model, table in analysis.gates.groupby("model", sort=False):
        lines = []
        for gate in rows_of(table):
            row = reliability.get((gate.model, gate.metric))
            numbers = [getattr(row, name, float("nan")) for name in ("image_agreement", "split_half", "test_retest")]
            lines.append(
                {
                    "metric": analysis.data.metrics[gate.metric].title, "verdict": gate.verdict, "numbers": numbers,
                    "means": [(value, format.number(value)) for value in (gate.mask, gate.methods, gate.chance)],
                    "reason": format.DASH if gate.verdict == PASSED else gate.reason,
                }
            )  # fmt: skip
        boards.append({"title": _model_title(analysis, str(model)), "lines": lines})
    return boards


def agreements(analysis: RunAnalysis) -> list[Row]:
    """List how alike two metrics order the explainers, a matrix for each network."""
    matrices = []
    for model in analysis.models():
        table = analysis.agreement[analysis.agreement["model"] == model.name].dropna(subset=["correlation"])
        names = [name for name in analysis.data.metrics if name in {*table["metric"], *table["other"]}]
        correlations = {frozenset((row.metric, row.other)): row.correlation for row in rows_of(table)}
        lines = [
            (
                analysis.data.metrics[name].title,
                [correlations.get(frozenset((name, column)), float("nan")) for column in names],
            )
            for name in names
        ]
        variants = [
            f"{analysis.data.metrics[row.metric].title} ({row.variants}): {format.number(row.correlation, 2)}"
            for row in rows_of(table[table["variants"] != ""])
        ]
        titles = [analysis.data.metrics[name].title for name in names]
        methods = int(table["methods"].max()) if len(table) else 0
        if names:
            matrices.append(
                {"title": model.title, "names": titles, "lines": lines, "variants": variants, "methods": methods}
            )
    return matrices


def sizes(analysis: RunAnalysis) -> list[Row]:
    """List means by the size of the evidence, by network and metric."""
    boards = []
    titles = {info.name: info.title for info in analysis.data.metrics.values() if info.family == "localisation"}
    groups: Any = analysis.sizes.groupby(["model", "metric"], sort=False)
    for (model, metric), table in groups:
        if metric not in titles:
            continue
        heads = [
            f"{row.size} ({format.percent(row.least)} to {format.percent(row.most)})"
            for row in rows_of(table.drop_duplicates("size"))
        ]
        lines = []
        for explainer, rows in table.groupby("explainer", sort=False):
            by_size = rows.set_index("size").reindex([size for size in SIZES if size in set(table["size"])])
            cells = [format.interval(row.mean, row.ci_low, row.ci_high) for row in rows_of(by_size)]
            lines.append((analysis.title(str(explainer)), cells))
        title = f"{titles[metric]}, {_model_title(analysis, model)}"
        boards.append({"title": title, "heads": heads, "lines": lines})
    return boards


def ablations(analysis: RunAnalysis) -> list[Row]:
    """List ranks and scores before and after each map transform."""
    boards = []
    titles = {entry.name: f" ({entry.title})" for entry in analysis.data.record.ablations}
    groups: Any = analysis.transform_effects.groupby(["model", "transform"], sort=False)
    for (model, transform), table in groups:
        metrics = list(dict.fromkeys(table["metric"]))
        changes = analysis.rank_changes[
            (analysis.rank_changes["model"] == model) & (analysis.rank_changes["transform"] == transform)
        ]
        ranks = changes.set_index("explainer")
        lines = []
        for explainer, rows in table.groupby("explainer", sort=False):
            by_metric = rows.set_index("metric").reindex(metrics)
            rank: Any = ranks.loc[explainer] if explainer in ranks.index else {}
            before, after = (rank.get(f"mean_rank_{when}", float("nan")) for when in ("plain", "changed"))
            cells = [_score_change(row) for row in rows_of(by_metric)]
            lines.append({"title": analysis.title(str(explainer)), "before": before, "after": after, "cells": cells})
        lines.sort(key=lambda line: (np.isnan(line["before"]), line["before"]))
        board = {
            "title": f"{transform}{titles.get(transform, '')}, {_model_title(analysis, model)}",
            "metrics": [analysis.data.metrics[name].title for name in metrics],
            "lines": lines,
        }
        boards.append(board)
    return boards


def _score_change(row: Any) -> tuple[str, str]:
    """Return the scores before and after, and the verdict on the change.

    The verdict is "better", "worse" or "level", by the interval of the paired difference.
    """
    if np.isnan(row.plain):
        return format.DASH, ""
    verdict = "better" if row.ci_low > 0 else "worse" if row.ci_high < 0 else "level"
    return f"{format.number(row.plain)} → {format.number(row.changed)}", verdict


def networks(analysis: RunAnalysis) -> Row:
    """Compare networks on the scale from random maps (0) to the mask (1).

    Each has its own explanation and its best external one.
    """
    table = analysis.relative
    metrics = [name for name in analysis.data.metrics if name in set(table["metric"])]
    scores = {(row.model, row.explainer, row.metric): row.relative for row in rows_of(table)}
    lines = []
    for model in analysis.models():
        ranked = analysis.ranks[analysis.ranks["model"] == model.name].dropna(subset=["mean_rank"])
        infos = analysis.data.explainers
        external = [name for name in ranked["explainer"] if infos[name].external and name != analysis.own_explainer]
        own_rows = [analysis.own_explainer] if analysis.own_explainer in set(ranked["explainer"]) else []
        for name in [*own_rows, *external[:1]]:
            cells = [scores.get((model.name, name, metric), float("nan")) for metric in metrics]
            role = "own" if name == analysis.own_explainer else "best external"
            lines.append({"model": model.title, "title": analysis.title(str(name)), "role": role, "cells": cells})
    return {"metrics": [analysis.data.metrics[name].title for name in metrics], "lines": lines if metrics else []}


def degenerate(analysis: RunAnalysis) -> list[Row]:
    """Count the maps without information, by explainer and network."""
    table = analysis.degenerate
    models = [info for info in analysis.data.models.values() if info.name in set(table["model"])]
    counts = {(row.model, row.explainer): f"{row.degenerate} of {row.total}" for row in rows_of(table)}
    affected = set(table[table["degenerate"] > 0]["explainer"])
    return [
        {
            "title": info.title,
            "counts": [(model.title, counts.get((model.name, info.name), format.DASH)) for model in models],
            "bad": info.name in affected,
        }
        for info in analysis.data.explainers.values()
        if info.name in set(table["explainer"])
    ]


def audit(analysis: RunAnalysis) -> list[Row]:
    """List the largest differences between scores and their recomputation by another engine."""
    return [
        {
            "metric": _metric_title(analysis, entry.metric),
            "model": _model_title(analysis, entry.model),
            "explainer": analysis.title(entry.explainer),
            "images": entry.images,
            "engine": entry.engine,
            "largest": format.number(entry.largest),
        }
        for entry in analysis.data.record.audit
    ]


def metric_row(info: MetricInfo) -> Row:
    """Describe a metric: direction, range, and whether it counts."""
    direction = {"higher": "higher", "lower": "lower"}.get(info.direction, format.DASH)
    has_bound = np.isfinite([info.low, info.high]).any()
    bounds = f"{format.count(info.low)} to {format.count(info.high)}".replace(f"to {format.DASH}", "and up")
    is_counted = info.ranked and info.family not in UNRANKED_FAMILIES
    return {
        "info": info, "better": direction, "span": bounds if has_bound else format.DASH,
        "counted": "yes" if is_counted else "no",
    }  # fmt: skip


def explainer_row(analysis: RunAnalysis, info: ExplainerInfo) -> Row:
    """Describe an explainer: kind, settings, and the networks where its maps are doubtful."""
    settings = ", ".join(f"{key} = {value}" for key, value in dict(info.params).items())
    doubts = [(_model_title(analysis, model), text) for model, text in dict(info.caveats).items() if text]
    return {
        "info": info, "kind": KINDS.get(info.kind, info.kind), "settings": settings or format.DASH,
        "ranked": info.name not in REFERENCES, "doubts": doubts,
    }  # fmt: skip


def _model_title(analysis: RunAnalysis, name: str) -> str:
    info = analysis.data.models.get(name)
    return info.title if info else name


def _metric_title(analysis: RunAnalysis, name: Any) -> str:
    info = analysis.data.metrics.get(str(name))
    return info.title if info else str(name)

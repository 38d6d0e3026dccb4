"""report.html: one self-contained page, readable on a phone and on a desktop, in light and dark.

Figures are embedded (SVG, the gallery PNG) in a wide form and a narrow one for small screens. The page asks for
nothing from outside and runs no script; its content policy forbids both. All names pass through jinja2's escaping.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, Undefined

from benchmarks.report import answer, words
from benchmarks.report.album import SHOWN, Plate
from benchmarks.report.data import FAMILIES, ExplainerInfo, Findings, MetricInfo, ModelInfo
from benchmarks.report.tables import best_rows
from benchmarks.statistics import REFERENCES

HERE = Path(__file__).parent
KINDS = {"intrinsic": "the network's own", "external": "external", "control": "control"}
CONTROLS = {
    "random": "independent noise for every pixel; what chance gives.",
    "smoothed_random": "blurred noise; shows how far smoothness alone is rewarded.",
    "centre_gaussian": "a bump in the middle of every image; shows how far the habit of photographers is rewarded.",
    "edges": "edge strength of the image; looks like an explanation without knowing the network.",
    "mask": "the evidence mask itself; the best a map can do on localisation, not ranked.",
}
TARGETS = (
    "The explained class is the true class, on images that every network of the run classifies correctly; so it is the "
    "predicted class as well."
)
SIGNS = (
    "Mass accuracy and the pointing game read the positive part of a map: evidence against the class is no evidence "
    "for it. All other metrics read the raw order of values. Equal values are ordered by seeded jitter."
)
DEGENERATE = (
    "A map that is constant or holds NaN or infinite values says nothing. It is counted here, gets a random order "
    "where a metric reads order, and the worst score where chance would flatter it."
)


def render_page(findings: Findings, plates: list[Plate]) -> str:
    """The page as HTML text."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=words.number,
        rank=words.rank,
        percent=words.percent,
        duration=words.duration,
        dash=_dash,
        listed=words.listed,
    )
    page = environment.get_template("page.html.j2").render(**context(findings, plates))
    return page + "\n"


def context(findings: Findings, plates: list[Plate]) -> dict[str, Any]:
    """All that the template shows."""
    data = findings.data
    return {
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "run": _provenance(data.meta),
        "dataset": data.part("dataset", {}),
        "question": answer.QUESTION,
        "answers": answer.answers(findings),
        "twins": answer.twins(findings),
        "caveats": answer.caveats(findings),
        "verdicts": answer.VERDICTS,
        "leaderboards": [_leaderboard(findings, model) for model in findings.models()],
        "tables": [_score_table(findings, model) for model in findings.models()],
        "plates": {
            section: [_embedded(p) for p in plates if p.section == section] for section in {p.section for p in plates}
        },
        "models": list(data.models.values()),
        "degenerate": _degenerate(findings),
        "problems": data.part("problems", []),
        "metrics": [_measured(info) for info in data.metrics.values()],
        "explainers": [_explained(info) for info in data.explainers.values()],
        "controls": [
            (info.title, CONTROLS.get(info.name, info.source)) for info in data.explainers.values() if info.control
        ],
        "notes": {
            "targets": data.part("dataset", {}).get("targets") or TARGETS,
            "signs": SIGNS,
            "degenerate": DEGENERATE,
        },
    }


def _leaderboard(findings: Findings, model: ModelInfo) -> dict[str, Any]:
    families = [family for family in ("localisation", "faithfulness") if family in findings.ranks]
    rows: list[dict[str, Any]] = []
    for info in findings.explainers():
        if not any((model.name, info.name, metric) in findings.keys for metric in findings.data.metrics):
            continue
        costs = [findings.row(model.name, info.name, cost) for cost in ("forwards", "seconds")]
        rows.append(
            {
                "title": info.title, "kind": KINDS.get(info.kind, info.kind), "control": info.control,
                "own": info.name == findings.own, "mean": findings.rank(model.name, info.name),
                "families": [findings.rank(model.name, info.name, family) for family in families],
                "forwards": words.plain(costs[0]["mean"]) if costs[0] is not None else words.DASH,
                "seconds": words.short_time(costs[1]["mean"]) if costs[1] is not None else words.DASH,
            }
        )  # fmt: skip
    rows.sort(key=lambda row: (row["control"], np.isnan(row["mean"]), row["mean"]))
    return {"title": model.title, "families": families, "rows": rows}


def _score_table(findings: Findings, model: ModelInfo) -> dict[str, Any]:
    metrics = [info for family in FAMILIES for info in findings.metrics(family)]
    best = best_rows(findings)
    rows = []
    for info in findings.explainers():
        found = [findings.row(model.name, info.name, metric.name) for metric in metrics]
        if all(row is None for row in found):
            continue
        cells = [
            (words.interval(row["mean"], row["ci_low"], row["ci_high"]), row.name in best)
            if row is not None
            else (words.DASH, False)
            for row in found
        ]
        rows.append({"title": info.title, "control": info.control, "cells": cells})
    return {"title": model.title, "metrics": metrics, "rows": rows}


def _degenerate(findings: Findings) -> list[dict[str, Any]]:
    table = findings.degenerate
    models = [info for info in findings.data.models.values() if info.name in set(table["model"])]
    counts = {(row.model, row.explainer): f"{row.degenerate} of {row.total}" for row in table.itertuples()}
    bad = set(table[table["degenerate"] > 0]["explainer"])
    return [
        {
            "title": info.title,
            "counts": [(model.title, counts.get((model.name, info.name), words.DASH)) for model in models],
            "bad": info.name in bad,
        }
        for info in findings.data.explainers.values()
        if info.name in set(table["explainer"])
    ]


def _measured(info: MetricInfo) -> dict[str, Any]:
    better = {"higher": "higher", "lower": "lower"}.get(info.direction, words.DASH)
    limits = f"{words.plain(info.low)} to {words.plain(info.high)}"
    span = words.DASH if not np.isfinite([info.low, info.high]).any() else limits.replace(f"to {words.DASH}", "and up")
    counted = info.ranked and info.family not in ("descriptor", "cost")
    return {"info": info, "better": better, "span": span, "counted": "yes" if counted else "no"}


def _explained(info: ExplainerInfo) -> dict[str, Any]:
    settings = ", ".join(f"{key} = {value}" for key, value in dict(info.params).items())
    ranked = info.name not in REFERENCES
    return {"info": info, "kind": KINDS.get(info.kind, info.kind), "settings": settings or words.DASH, "ranked": ranked}


def _provenance(meta: Mapping[str, Any]) -> dict[str, Any]:
    git = meta.get("git") or {}
    commit = str(git.get("commit") or "")[:12]
    return {
        **meta,
        "name": meta.get("name") or "unnamed run",
        "commit": f"{commit}{' with uncommitted changes' if git.get('dirty') else ''}" if commit else None,
        "versions": meta.get("versions") or {},
        "times": meta.get("times") or {},
        "seeds": ", ".join(str(seed) for seed in meta.get("seeds") or []),
        "config": json.dumps(meta["config"], indent=2, default=str, ensure_ascii=False) if meta.get("config") else None,
    }


def _embedded(plate: Plate) -> dict[str, str]:
    ending = SHOWN.get(plate.section, "svg")
    kind = {"png": "image/png", "svg": "image/svg+xml"}[ending]
    sources = [f"data:{kind};base64,{base64.b64encode(files[ending]).decode()}" for files in (plate.wide, plate.narrow)]
    return {
        "title": plate.title,
        "caption": plate.caption,
        "wide": sources[0],
        "narrow": sources[1],
        "name": plate.name,
    }


def _dash(value: Any) -> Any:
    return words.DASH if isinstance(value, Undefined) or value is None or value in ("", (), []) else value

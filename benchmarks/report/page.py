"""report.html: one self-contained page, readable on a phone and on a desktop, in light and dark.

Figures are embedded (SVG, galleries WebP) in a wide form and a narrow one for small screens. The page asks for nothing
from outside; its content policy forbids it, and allows one script by its hash, which sorts tables and without which
nothing is missing. All names pass through jinja2's escaping.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Undefined
from PIL import Image

from benchmarks.report import format, page_tables, summary_text
from benchmarks.report.figures import pairs, svg
from benchmarks.report.figures.figure_set import SHOWN, Plate
from benchmarks.statistics.analysis import RunAnalysis

TEMPLATES = Path(__file__).parent / "templates"
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


def render_page(findings: RunAnalysis, plates: list[Plate]) -> str:
    """The page as HTML text."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=format.number,
        fixed=format.fixed,
        percent=format.percent,
        duration=format.duration,
        probability=format.probability,
        dash=_dash,
        listed=format.listed,
    )
    page = environment.get_template("page.html.j2").render(**context(findings, plates))
    return page + "\n"


def context(findings: RunAnalysis, plates: list[Plate]) -> dict[str, Any]:
    """All that the template shows."""
    data = findings.data
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return {
        "css": (TEMPLATES / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "run": _provenance(data.meta),
        "dataset": data.part("dataset", {}),
        "question": summary_text.QUESTION,
        "answers": summary_text.answers(findings),
        "twins": summary_text.twins(findings),
        "caveats": summary_text.caveats(findings),
        "verdicts": summary_text.VERDICTS,
        "leaderboards": [page_tables.leaderboard(findings, model) for model in findings.models()],
        "tables": [page_tables.score_table(findings, model) for model in findings.models()],
        "checks": [page_tables.checks(findings, model) for model in findings.models()]
        if findings.metrics("check")
        else [],
        "comparisons": [page_tables.comparisons(findings, model) for model in findings.models()]
        if len(findings.paired)
        else [],
        "gates": page_tables.gates(findings),
        "several_seeds": bool((findings.reliability["seeds"] > 1).any()),
        "agreements": page_tables.agreements(findings),
        "sizes": page_tables.sizes(findings),
        "ablations": page_tables.ablations(findings),
        "arms": page_tables.arms(findings),
        "pairs": _gallery(findings),
        "audit": page_tables.audit(findings),
        "plates": {
            section: [_embedded(p) for p in plates if p.section == section] for section in {p.section for p in plates}
        },
        "models": data.trainings or list(data.models.values()),
        "degenerate": page_tables.degenerate(findings),
        "problems": data.part("problems", []),
        "metrics": [page_tables.measured(info) for info in data.metrics.values()],
        "explainers": [page_tables.explained(findings, info) for info in data.explainers.values()],
        "controls": [
            (info.title, CONTROLS.get(info.name, info.source)) for info in data.explainers.values() if info.control
        ],
        "notes": {
            "targets": data.part("dataset", {}).get("targets") or TARGETS,
            "signs": SIGNS,
            "degenerate": DEGENERATE,
        },
    }


def _gallery(findings: RunAnalysis) -> list[dict[str, Any]]:
    """Best, median and worst images of the own explainer against each external one, by model."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    data = findings.data
    for example in findings.examples:
        own, other = data.explainers[findings.own_explainer or ""].title, data.explainers[example.explainer].title
        metric = data.metrics[example.metric]
        pair = found.setdefault(
            (example.model, example.explainer),
            {"title": f"{own} against {other}, {data.models[example.model].title}", "own": own, "other": other,
             "metric": metric.title, "better": metric.direction, "strips": []},
        )  # fmt: skip
        label = data.gallery.labels[data.gallery.ids.index(example.image)] if data.gallery else ""
        pair["strips"].append({
            "example": example, "label": label,
            "source": _uri("image/webp", pairs.strip(data, example, findings.own_explainer or "")),
        })  # fmt: skip
    return list(found.values())


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
    wide, narrow = (_shown(files[SHOWN.get(plate.section, "svg")], plate) for files in (plate.wide, plate.narrow))
    return {"title": plate.title, "caption": plate.caption, "wide": wide, "narrow": narrow, "name": plate.name}


def _shown(content: bytes, plate: Plate) -> str:
    """A figure as the page holds it: pictures compressed, drawings ready for the dark."""
    if SHOWN.get(plate.section) == "png":
        return _uri("image/webp", pairs.webp(Image.open(io.BytesIO(content)), quality=80))
    return _uri("image/svg+xml", svg.for_page(content))


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _dash(value: Any) -> Any:
    return format.DASH if isinstance(value, Undefined) or value is None or value in ("", (), []) else value

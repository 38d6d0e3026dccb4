"""report.html: one self-contained page, readable on a phone and on a desktop, in light and dark, and in print.

It begins with the verdict, the first two explainers side by side and the gallery. What statisticians want follows,
folded where it is long. Figures are embedded as SVG, in a wide form and a narrow one for small screens.
The page loads nothing from outside: its content policy forbids that, and allows one script by its hash. The script
sorts tables and unfolds sections, and without it nothing is missing. All names pass through jinja2's escaping.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Undefined

from benchmarks.report import format, page_tables, run_tables, summary_text
from benchmarks.report.figures import pairs, palette, svg
from benchmarks.report.figures.figure_set import PAGE_FORM, RenderedFigure
from benchmarks.report.verdict import judge, networks_with_ranks
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.record import RunRecord
from benchmarks.store.run_data import ModelInfo

TEMPLATES = Path(__file__).parent / "templates"
CONTROLS = {
    "random": "independent noise in every pixel. It shows what chance reaches.",
    "smoothed_random": "blurred noise. It shows how far smoothness alone is rewarded.",
    "centre_gaussian": "a bump in the middle of every image. It shows how far photographers' habit is rewarded.",
    "edges": "edge strength of the image. It looks like an explanation without using the network.",
    "mask": "the evidence mask itself. No map can do better on localisation, and it is not ranked.",
}
TARGETS = (
    "The explained class is the true class, on images that every network of the run classifies correctly. So it is the "
    "predicted class as well."
)
SIGNS = (
    "Mass accuracy and the pointing game read the positive part of a map, since evidence against the class is no "
    "evidence for it. All other metrics read the raw order of values. Equal values are ordered by seeded jitter."
)
DEGENERATE = (
    "A map that is constant or holds NaN or infinite values carries no information. It is counted here. Metrics that "
    "read an order give it a random order, and the worst score where chance would flatter it."
)
# Sections that a run may lack, and what the page says then.
ABSENT = {
    "gallery": "It has no gallery of maps yet.",
    "sizes": "It does not say how large the evidence of its images is.",
    "ablations": "It has no scores of maps that were smoothed, coarsened or sharpened.",
    "audit": "No score was computed a second time by another engine.",
    "problems": "It has recorded no problems.",
}


def render_page(analysis: RunAnalysis, figures: Sequence[RenderedFigure]) -> str:
    """Render the page as HTML."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=format.number,
        decimals=format.decimals,
        percent=format.percent,
        duration=format.duration,
        dash=_dash,
        metric_title=format.metric_title,
        join_names=format.join_names,
    )
    page = environment.get_template("page.html.j2").render(**context(analysis, figures))
    return page + "\n"


def context(analysis: RunAnalysis, figures: Sequence[RenderedFigure]) -> dict[str, Any]:
    """Collect everything that the templates show."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    values = {
        "css": palette.css_variables(palette.PAGE) + "\n" + (TEMPLATES / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "run": _run(analysis.data.record),
        "dataset": analysis.data.record.dataset,
        "figures": _figures_by_section(analysis, figures),
        "pairs": _pairs(analysis),
        **_summary(analysis),
        **_statistics(analysis),
        **_method(analysis),
    }
    return {**values, "absent": {name: text for name, text in ABSENT.items() if not _has_section(name, values)}}


def _summary(analysis: RunAnalysis) -> dict[str, Any]:
    return {
        "verdict": judge(analysis),
        "cards": [page_tables.card(analysis, model) for model in networks_with_ranks(analysis)],
        "other_networks": summary_text.other_networks(analysis),
        "accuracy": summary_text.accuracy_sentence(analysis),
        "summaries": summary_text.network_summaries(analysis),
        "own_title": analysis.title(analysis.own_explainer),
        "caveats": summary_text.caveats(analysis),
        "verdicts": summary_text.VERDICTS,
    }


def _statistics(analysis: RunAnalysis) -> dict[str, Any]:
    models = _networks(analysis)
    has_checks, has_pairs = bool(analysis.metrics("check")), len(analysis.paired) > 0
    return {
        "leaderboards": [page_tables.leaderboard(analysis, model) for model in models],
        "tables": [page_tables.score_table(analysis, model) for model in models],
        "checks": [page_tables.checks(analysis, model) for model in models if has_checks],
        "comparisons": [page_tables.comparisons(analysis, model) for model in models if has_pairs],
        "gates": run_tables.gates(analysis),
        "several_seeds": bool((analysis.reliability["seeds"] > 1).any()),
        "agreements": run_tables.agreements(analysis),
        "sizes": run_tables.sizes(analysis),
        "ablations": run_tables.ablations(analysis),
        "pair_boards": run_tables.pair_tests(analysis),
        "networks": run_tables.networks(analysis),
        "audit": run_tables.audit(analysis),
        "degenerate": run_tables.degenerate(analysis),
    }


def _method(analysis: RunAnalysis) -> dict[str, Any]:
    data = analysis.data
    return {
        "models": data.trainings or list(data.models.values()),
        "problems": data.record.problems,
        "metrics": [run_tables.metric_row(info) for info in data.metrics.values()],
        "explainers": [run_tables.explainer_row(analysis, info) for info in data.explainers.values()],
        "controls": [
            (info.title, CONTROLS.get(info.name, info.source)) for info in data.explainers.values() if info.control
        ],
        "notes": {
            "targets": (data.record.dataset.model_extra or {}).get("targets") or TARGETS,
            "signs": SIGNS,
            "degenerate": DEGENERATE,
        },
    }


def _networks(analysis: RunAnalysis) -> list[ModelInfo]:
    """Return all networks with scores, those of the cards first."""
    ranked = networks_with_ranks(analysis)
    return ranked + [model for model in analysis.models() if model not in ranked]


def _has_section(name: str, values: Mapping[str, Any]) -> bool:
    return bool(values.get(name) or values["figures"].get(name) or (name == "gallery" and values["pairs"]))


def _pairs(analysis: RunAnalysis) -> list[dict[str, Any]]:
    """Collect the example images of the own explainer against each other one."""
    data, own_name = analysis.data, analysis.own_explainer or ""
    by_pair: dict[tuple[str, str], dict[str, Any]] = {}
    for example in analysis.examples:
        title, opponent = data.explainers[own_name].title, data.explainers[example.explainer].title
        metric = data.metrics[example.metric]
        pair = by_pair.setdefault(
            (example.model, example.explainer),
            {"title": f"{title} against {opponent}, {data.models[example.model].title}", "own": title,
             "other": opponent, "metric": metric.title, "better": metric.direction, "strips": []},
        )  # fmt: skip
        label = data.gallery.labels[data.gallery.ids.index(example.image)] if data.gallery else ""
        source = _uri("image/webp", pairs.strip(data, example, own_name))
        pair["strips"].append({"example": example, "label": label, "source": source})
    return list(by_pair.values())


def _run(record: RunRecord) -> dict[str, Any]:
    """Return the fields of the record, as text where the page shows them as text."""
    commit = (record.git.commit or "")[:12] if record.git else ""
    dirty = " with uncommitted changes" if record.git and record.git.dirty else ""
    return {
        **vars(record),
        "name": record.name or "unnamed run",
        "commit": f"{commit}{dirty}" if commit else None,
        "seeds": ", ".join(str(seed) for seed in record.seeds),
        "config": json.dumps(record.config, indent=2, default=str, ensure_ascii=False) if record.config else None,
    }


def _figures_by_section(analysis: RunAnalysis, figures: Sequence[RenderedFigure]) -> dict[str, list[dict[str, str]]]:
    """Embed the figures, those of networks in the order of the cards."""
    order = [model.title for model in _networks(analysis)]
    by_section: dict[str, list[dict[str, str]]] = {}
    for figure in sorted(figures, key=lambda figure: order.index(figure.title) if figure.title in order else -1):
        by_section.setdefault(figure.section, []).append(_embed(figure))
    return by_section


def _embed(figure: RenderedFigure) -> dict[str, str]:
    wide, narrow = (
        _uri("image/svg+xml", svg.for_page(contents[PAGE_FORM])) for contents in (figure.wide, figure.narrow)
    )
    return {"title": figure.title, "caption": figure.caption, "wide": wide, "narrow": narrow, "name": figure.name}


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _dash(value: Any) -> Any:
    return format.DASH if isinstance(value, Undefined) or value is None or value in ("", (), []) else value

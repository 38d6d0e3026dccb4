"""Localisation by the size of the evidence: small, medium and large thirds of the images, as small to large markers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures import style
from benchmarks.statistics import SIZES
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.run_data import ExplainerInfo, MetricInfo

MARKS = {"small": 2.5, "medium": 4.5, "large": 6.5}


@style.styled
def sizes_figure(findings: RunAnalysis, model: str, narrow: bool = False) -> Figure:
    """One panel a ranked localisation metric, explainers of one model as rows, a marker for each third."""
    measured = set(findings.sizes["metric"])
    metrics = [info for info in findings.metrics("localisation") if info.name in measured]
    explainers = [info for info in findings.explainers() if (model, info.name) in _pairs(findings)]
    columns = min(2 if narrow else 4, max(1, len(metrics)))
    lines = -(-len(metrics) // columns) or 1
    size = style.NARROW if narrow else style.WIDE, 0.6 + lines * (0.8 + 0.17 * max(4, len(explainers)))
    figure = Figure(size, layout="constrained")
    panels = np.ravel(figure.subplots(lines, columns, squeeze=False, sharey=True))
    for axes, metric in zip(panels, metrics, strict=False):
        _panel(axes, findings, model, metric, explainers)
        axes.set_title(style.folded(metric.title, 15 if narrow else 22))
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    handles = [Line2D([], [], marker="o", linestyle="", color=style.INK, markersize=MARKS[s], label=s) for s in SIZES]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def _pairs(findings: RunAnalysis) -> set[tuple[str, str]]:
    return set(zip(findings.sizes["model"], findings.sizes["explainer"], strict=True))


def _panel(axes: Axes, findings: RunAnalysis, model: str, metric: MetricInfo, explainers: list[ExplainerInfo]) -> None:
    heights = style.rows(explainers)
    place = [info.name for info in findings.models()].index(model)
    table = findings.sizes[(findings.sizes["model"] == model) & (findings.sizes["metric"] == metric.name)]
    for info in explainers:
        rows = table[table["explainer"] == info.name].set_index("size").reindex(SIZES).dropna(subset=["mean"])
        colour, height = style.colour(place, info), heights[info.name]
        axes.plot(rows["mean"], [height] * len(rows), color=colour, linewidth=0.8, alpha=0.6)
        for size, mean in rows["mean"].items():
            axes.plot(mean, height, "o", color=colour, markersize=MARKS[str(size)], alpha=0.85)
    style.label_rows(axes, explainers, heights)
    axes.set_xlabel(style.direction(metric))

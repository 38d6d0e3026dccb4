"""Draw localisation by the size of the evidence: small, medium and large thirds of the images."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures import palette, style
from benchmarks.statistics import SIZES
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.run_data import ExplainerInfo, MetricInfo

MARKER_SIZES = {"small": 2.5, "medium": 4.5, "large": 6.5}


@style.use_style
def sizes_figure(analysis: RunAnalysis, model: str, narrow: bool = False) -> Figure:
    """Draw a panel for each ranked localisation metric of one network.

    Rows are explainers, with a marker for each third of the images.
    """
    with_sizes = set(analysis.sizes["metric"])
    metrics = [info for info in analysis.metrics("localisation") if info.name in with_sizes]
    explainers = [info for info in analysis.explainers() if (model, info.name) in _pairs(analysis)]
    columns = min(2 if narrow else 4, max(1, len(metrics)))
    rows = -(-len(metrics) // columns) or 1
    size = style.NARROW if narrow else style.WIDE, 0.6 + rows * (0.8 + 0.17 * max(4, len(explainers)))
    figure = Figure(size, layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False, sharey=True))
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_panel(axes, analysis, model, metric, explainers)
        axes.set_title(style.wrap(metric.title, 15 if narrow else 22))
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], marker="o", linestyle="", color=palette.INK, markersize=MARKER_SIZES[size], label=size)
        for size in SIZES
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def _pairs(analysis: RunAnalysis) -> set[tuple[str, str]]:
    return set(zip(analysis.sizes["model"], analysis.sizes["explainer"], strict=True))


def _draw_panel(
    axes: Axes, analysis: RunAnalysis, model: str, metric: MetricInfo, explainers: list[ExplainerInfo]
) -> None:
    heights = style.row_heights(explainers)
    network = [info.name for info in analysis.models()].index(model)
    table = analysis.sizes[(analysis.sizes["model"] == model) & (analysis.sizes["metric"] == metric.name)]
    for info in explainers:
        rows = table[table["explainer"] == info.name].set_index("size").reindex(SIZES).dropna(subset=["mean"])
        colour, height = style.colour_of(network, info), heights[info.name]
        axes.plot(rows["mean"], [height] * len(rows), color=colour, linewidth=0.8, alpha=0.6)
        for size, mean in rows["mean"].items():
            axes.plot(mean, height, "o", color=colour, markersize=MARKER_SIZES[str(size)], alpha=0.85)
    style.label_rows(axes, explainers, heights)
    axes.set_xlabel(style.direction_label(metric))

"""Draw scores with intervals, mean ranks, and cost against quality.

Each function makes a matplotlib Figure from the analysis of a run, in a wide and a narrow form. Compare within one
network (one colour): numbers of two networks differ because the networks do. The grey band is the range that controls
reach, which know nothing of the network, so a score inside it shows little.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from benchmarks.report import format
from benchmarks.report.figures import palette, style
from benchmarks.report.figures.label_placement import place_labels
from benchmarks.statistics import gate_failures
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.run_data import JUDGED, ExplainerInfo, MetricInfo
from benchmarks.store.score_names import REFERENCES

TITLE_WIDTH, NARROW_TITLE_WIDTH = 72, 26  # letters that fit over the panels of a row
MAX_COST_PANELS = 3  # in a row
ALL_PANEL = "All ranked metrics"
GATED_PANEL = "Metrics that pass the gate"
ONE_FAMILY_PANEL = "Metrics that pass the gate, all of {}"


@style.use_style
def scores_figure(analysis: RunAnalysis, families: tuple[str, ...], narrow: bool = False) -> Figure:
    """Draw means over images with 95 % intervals, a panel for each score.

    Rows are explainers.
    """
    metrics = [info for family in families for info in analysis.metrics(family)]
    explainers = analysis.explainers()
    columns = min(2 if narrow else 4, max(1, len(metrics)))
    rows = -(-len(metrics) // columns) or 1
    width = style.NARROW if narrow else style.WIDE
    figure = Figure((width, 0.75 + rows * (0.95 + 0.17 * max(4, len(explainers)))), layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False, sharey=True))
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_score_panel(axes, analysis, metric, explainers)
        axes.set_title(style.wrap(format.metric_title(metric), 15 if narrow else 22))
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    _add_legend(figure, analysis, narrow, has_band=any(info.family in JUDGED for info in metrics))
    return figure


@style.use_style
def ranks_figure(analysis: RunAnalysis, narrow: bool = False) -> Figure:
    """Draw the mean rank of every explainer, overall and by family.

    Ticks are the ranks on the single metrics.
    """
    titles = _rank_panels(analysis)
    explainers = _by_rank(analysis)
    rows, columns = (len(titles) or 1, 1) if narrow else (1, len(titles) or 1)
    height = 0.6 + 0.19 * max(4, len(explainers))
    size = (style.NARROW, 0.5 + height * rows) if narrow else (style.WIDE, 0.5 + height)
    figure = Figure(size, layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False, sharey=True))
    for axes, (column, title) in zip(panels, titles.items(), strict=False):
        _draw_rank_panel(axes, analysis, column, explainers)
        axes.set_title(style.wrap(title, NARROW_TITLE_WIDTH if narrow else TITLE_WIDTH // columns))
    if not titles:
        panels[0].set_axis_off()
    _add_legend(figure, analysis, narrow, has_band=False)
    return figure


@style.use_style
def cost_figure(analysis: RunAnalysis, cost: str = "forwards", narrow: bool = False) -> Figure:
    """Draw mean rank against cost per image, a panel for each network.

    The axis of the cost is logarithmic. Up and left is better.
    """
    models = analysis.models()
    columns = 1 if narrow else min(MAX_COST_PANELS, max(1, len(models)))
    rows = -(-len(models) // columns) or 1
    size = (style.NARROW, 0.3 + 2.7 * rows) if narrow else (style.WIDE, 3.0 * rows)
    figure = Figure(size, layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    points = []
    for network, (axes, model) in enumerate(zip(panels, models, strict=False)):
        axes.set_title(style.wrap(model.title, NARROW_TITLE_WIDTH if columns == MAX_COST_PANELS else TITLE_WIDTH))
        points.append(_draw_cost_panel(axes, analysis, model.name, network, cost))
    for axes, (x, y, titles) in zip(panels, points, strict=False):
        place_labels(axes, x, y, titles)
    for axes in panels[len(models) :]:
        axes.set_axis_off()
    return figure


def _draw_score_panel(axes: Axes, analysis: RunAnalysis, metric: MetricInfo, explainers: list[ExplainerInfo]) -> None:
    heights = style.row_heights(explainers)
    _draw_control_band(axes, analysis, metric, explainers)
    for network, shift in _shifts(analysis):
        model = analysis.models()[network]
        for info in explainers:
            row = analysis.row(model.name, info.name, metric.name)
            if row is not None and np.isfinite(row["mean"]):
                bounds = row["mean"], row["ci_low"], row["ci_high"]
                _draw_dot(axes, bounds, heights[info.name] + shift, network, info)
    style.label_rows(axes, explainers, heights)
    axes.set_xlabel(style.direction_label(metric))
    _set_score_axis(axes, metric)


def _shifts(analysis: RunAnalysis) -> Iterable[tuple[int, float]]:
    """Return each network's index, and how far its marks are above the middle of a row."""
    count = len(analysis.models())
    return [(network, 0.36 * ((count - 1) / 2 - network) / max(1, count - 1)) for network in range(count)]


def _draw_dot(axes: Axes, bounds: tuple[float, float, float], height: float, network: int, info: ExplainerInfo) -> None:
    mean, low, high = bounds
    colour = style.colour_of(network, info)
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [height, height], color=colour, linewidth=1.2, solid_capstyle="butt")
    face = palette.SHEET if info.name in REFERENCES else colour
    marker = style.marker_of(network)
    axes.plot(mean, height, marker, color=colour, markerfacecolor=face, markersize=3.6, markeredgewidth=0.8)


def _draw_control_band(axes: Axes, analysis: RunAnalysis, metric: MetricInfo, explainers: list[ExplainerInfo]) -> None:
    if metric.family not in JUDGED:
        return
    controls = [info.name for info in explainers if info.control and info.name not in REFERENCES]
    rows = [analysis.row(model.name, name, metric.name) for model in analysis.models() for name in controls]
    means = [row["mean"] for row in rows if row is not None and np.isfinite(row["mean"])]
    if means:
        axes.axvspan(min(means), max(means), color=palette.BAND, linewidth=0, zorder=0)


def _set_score_axis(axes: Axes, metric: MetricInfo) -> None:
    if metric.family == "cost":
        _set_log_axis(axes, metric.name, 3)
        return
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    least, greatest = axes.get_xlim()
    low = metric.low if np.isfinite(metric.low) else least
    high = metric.high if np.isfinite(metric.high) else greatest
    margin = 0.02 * (greatest - least)
    axes.set_xlim(max(least, low - margin), min(greatest, high + margin))


def _set_log_axis(axes: Axes, metric: str, max_ticks: int = 5) -> None:
    """Make the axis logarithmic, with zero at the left end, a decade below the smallest cost."""
    values = np.concatenate([np.asarray(line.get_xdata(), dtype=np.float64) for line in axes.lines] or [np.ones(1)])
    positive = values[values > 0]
    smallest = positive.min() if len(positive) else 1.0
    threshold = 10.0 ** np.floor(np.log10(smallest))
    if (values <= 0).any():
        axes.set_xscale("symlog", linthresh=threshold, linscale=0.6)
        axes.set_xlim(-0.35 * threshold, 3 * max(values.max(), threshold))
    else:
        axes.set_xscale("log")
        axes.set_xlim(smallest / 3, 3 * values.max())
    axes.set_xticks(_decades(threshold, values, max_ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick_label(metric, value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def _decades(threshold: float, values: np.ndarray, max_ticks: int) -> list[float]:
    first, last = round(np.log10(threshold)), int(np.ceil(np.log10(max(values.max(), threshold))))
    step = max(1, -(-(last - first) // (max_ticks - 1)))
    zero = [0.0] if (values <= 0).any() else []
    return [*zero, *(10.0**power for power in range(first, last + 1, step))]


def _tick_label(metric: str, value: float) -> str:
    if metric != "seconds":
        return format.count(value)
    return format.duration(value) if value >= 1e-5 else f"{1000 * value:.6f}".rstrip("0").rstrip(".") + " ms"


def _by_rank(analysis: RunAnalysis) -> list[ExplainerInfo]:
    ranked = [info for info in analysis.explainers() if info.name in set(analysis.ranks["explainer"])]
    means = dict(analysis.ranks.groupby("explainer")["mean_rank"].mean()) if ranked else {}
    return sorted(ranked, key=lambda info: (info.control, means[info.name]))


def _rank_panels(analysis: RunAnalysis) -> dict[str, str]:
    """Return the columns of the ranks to draw, each with its title.

    No two show the same.
    """
    families = {family: family.capitalize() for family in JUDGED if family in analysis.ranks}
    if "mean_rank" not in analysis.ranks:
        return families
    if not gate_failures(analysis.gates):
        return {"mean_rank": ALL_PANEL, **(families if len(families) > 1 else {})}
    if len(families) > 1:
        return {"mean_rank": GATED_PANEL, "mean_rank_all": ALL_PANEL, **families}
    gated = ONE_FAMILY_PANEL.format(*families) if families else GATED_PANEL
    return {"mean_rank": gated, "mean_rank_all": ALL_PANEL}


def _draw_rank_panel(axes: Axes, analysis: RunAnalysis, column: str, explainers: list[ExplainerInfo]) -> None:
    heights = style.row_heights(explainers)
    for network, shift in _shifts(analysis):
        model = analysis.models()[network].name
        for info in explainers:
            height, colour = heights[info.name] + shift, style.colour_of(network, info)
            ranks = _metric_ranks(analysis, model, info.name, column)
            axes.plot(ranks, [height] * len(ranks), "|", color=colour, alpha=0.45, markersize=4)
            mean = analysis.rank(model, info.name, column)
            axes.plot(mean, height, style.marker_of(network), color=colour, markersize=4.5)
    style.label_rows(axes, explainers, heights)
    last = int(analysis.ranks["contestants"].max())
    axes.set_xlim(0.5, last + 0.5)
    axes.set_xticks(style.rank_ticks(last))
    axes.set_xlabel("← mean rank, 1 is best")


def _metric_ranks(analysis: RunAnalysis, model: str, explainer: str, column: str) -> list[float]:
    """Return the ranks on the metrics that the mean of this column is over."""
    failed = gate_failures(analysis.gates)
    metrics = [
        info.name
        for info in analysis.data.metrics.values()
        if column == "mean_rank_all" or (column in ("mean_rank", info.family) and (model, info.name) not in failed)
    ]
    rows = [analysis.row(model, explainer, name) for name in metrics]
    return [row["rank"] for row in rows if row is not None and np.isfinite(row["rank"])]


def _draw_cost_panel(
    axes: Axes, analysis: RunAnalysis, model: str, network: int, cost: str
) -> tuple[list[float], list[float], list[str]]:
    """Draw the points of a network, and return their positions and titles."""
    x: list[float] = []
    y: list[float] = []
    titles: list[str] = []
    for info in analysis.explainers():
        row, rank = analysis.row(model, info.name, cost), analysis.rank(model, info.name)
        if row is None or not np.isfinite(row["mean"]) or not np.isfinite(rank):
            continue
        axes.plot(row["mean"], rank, style.marker_of(network), color=style.colour_of(network, info), markersize=5)
        x, y, titles = [*x, row["mean"]], [*y, rank], [*titles, info.title]
    _set_log_axis(axes, cost)
    last = max([*analysis.ranks["contestants"], 2]) if len(analysis.ranks) else 2
    axes.set_ylim(last + 0.6, 0.4)
    axes.set_yticks(style.rank_ticks(int(last)))
    axes.set_ylabel("mean rank (1 is best, at the top)")
    metric = analysis.data.metrics.get(cost)
    axes.set_xlabel(f"{format.metric_title(metric) if metric else cost} (log scale)")
    style.add_grid(axes)
    return x, y, titles


def _add_legend(figure: Figure, analysis: RunAnalysis, narrow: bool, has_band: bool) -> None:
    handles: list[Line2D | Patch] = [
        _legend_line(f"on {format.shorten(model.title, 34)}", style.colour_of(network), style.marker_of(network))
        for network, model in enumerate(analysis.models())
    ]
    if any(info.control for info in analysis.explainers()):
        handles.append(_legend_line("controls (know nothing of the network)", palette.CONTROL, ""))
    if has_band:
        handles.append(Patch(color=palette.BAND, label="range of the controls, without the mask"))
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=1 if narrow else 3 if len(handles) != 4 else 2)


def _legend_line(label: str, colour: str, marker: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, label=label, linestyle="-", markersize=4)

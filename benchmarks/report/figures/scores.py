"""The figures of a run but the gallery: scores with intervals, mean ranks, cost against quality.

Each is a function from findings to a matplotlib Figure, in a wide and a narrow form. Compare within one model (one
colour): numbers of two networks differ because the networks do. The grey band is what controls reach that know nothing
of the network, so a score inside it shows little.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from benchmarks.report import format
from benchmarks.report.figures import style
from benchmarks.report.figures.label_placement import place_labels
from benchmarks.statistics import gate_failures
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.run_data import JUDGED, ExplainerInfo, MetricInfo
from benchmarks.store.score_names import REFERENCES

TITLE_WIDTH = 72  # letters of title that fit over the panels of a row
NARROW_TITLE_WIDTH = 26
ALL_PANEL = "All ranked metrics"
GATED_PANEL = "Metrics that pass the gate"
ONE_FAMILY_PANEL = "Metrics that pass the gate, all of {}"


@style.styled
def scores_figure(findings: RunAnalysis, families: tuple[str, ...], narrow: bool = False) -> Figure:
    """One panel a score of these families: mean over images with its 95 % interval, explainers as rows."""
    metrics = [info for family in families for info in findings.metrics(family)]
    explainers = findings.explainers()
    columns = min(2 if narrow else 4, max(1, len(metrics)))
    lines = -(-len(metrics) // columns) or 1
    width = style.NARROW if narrow else style.WIDE
    figure = Figure((width, 0.75 + lines * (0.95 + 0.17 * max(4, len(explainers)))), layout="constrained")
    panels = np.ravel(figure.subplots(lines, columns, squeeze=False, sharey=True))
    for axes, metric in zip(panels, metrics, strict=False):
        _score_panel(axes, findings, metric, explainers)
        axes.set_title(style.folded(format.metric_title(metric), 15 if narrow else 22))
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    _legend(figure, findings, narrow, band=any(info.family in JUDGED for info in metrics))
    return figure


@style.styled
def ranks_figure(findings: RunAnalysis, narrow: bool = False) -> Figure:
    """Mean rank of every explainer, over all ranked metrics and per family; small ticks are the single metrics."""
    wanted = _rank_panels(findings)
    explainers = _by_rank(findings)
    shape = (len(wanted) or 1, 1) if narrow else (1, len(wanted) or 1)
    height = 0.6 + 0.19 * max(4, len(explainers))
    size = (style.NARROW, 0.5 + height * shape[0]) if narrow else (style.WIDE, 0.5 + height)
    figure = Figure(size, layout="constrained")
    panels = np.ravel(figure.subplots(*shape, squeeze=False, sharey=True))
    for axes, (column, title) in zip(panels, wanted.items(), strict=False):
        _rank_panel(axes, findings, column, explainers)
        axes.set_title(style.folded(title, NARROW_TITLE_WIDTH if narrow else TITLE_WIDTH // shape[1]))
    if not wanted:
        panels[0].set_axis_off()
    _legend(figure, findings, narrow, band=False)
    return figure


@style.styled
def cost_figure(findings: RunAnalysis, cost: str = "forwards", narrow: bool = False) -> Figure:
    """Mean rank against cost per image on a logarithmic axis, one panel a model; up and left is better."""
    models = findings.models()
    shape = (max(1, len(models)), 1) if narrow else (1, max(1, len(models)))
    size = (style.NARROW, 0.3 + 2.7 * shape[0]) if narrow else (style.WIDE, 3.0)
    figure = Figure(size, layout="constrained")
    panels = np.ravel(figure.subplots(*shape, squeeze=False))
    pending = []
    for place, (axes, model) in enumerate(zip(panels, models, strict=False)):
        axes.set_title(model.title)
        pending.append(_cost_panel(axes, findings, model.name, place, cost))
    for axes, points in zip(panels, pending, strict=False):
        place_labels(axes, *points)
    if not models:
        panels[0].set_axis_off()
    return figure


def _score_panel(axes: Axes, findings: RunAnalysis, metric: MetricInfo, explainers: list[ExplainerInfo]) -> None:
    heights = style.rows(explainers)
    models = findings.models()
    _control_band(axes, findings, metric, explainers)
    for place, model in enumerate(models):
        shift = 0.36 * ((len(models) - 1) / 2 - place) / max(1, len(models) - 1)
        for info in explainers:
            row = findings.row(model.name, info.name, metric.name)
            if row is not None and np.isfinite(row["mean"]):
                _dot(axes, row["mean"], row["ci_low"], row["ci_high"], heights[info.name] + shift, place, info)
    style.label_rows(axes, explainers, heights)
    axes.set_xlabel(style.direction(metric))
    _score_axis(axes, metric)


def _dot(axes: Axes, mean: float, low: float, high: float, height: float, place: int, info: ExplainerInfo) -> None:
    colour = style.colour(place, info)
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [height, height], color=colour, linewidth=1.2, solid_capstyle="butt")
    face = "white" if info.name in REFERENCES else colour
    axes.plot(
        mean, height, style.marker(place), color=colour, markerfacecolor=face, markersize=3.6, markeredgewidth=0.8
    )


def _control_band(axes: Axes, findings: RunAnalysis, metric: MetricInfo, explainers: list[ExplainerInfo]) -> None:
    if metric.family not in JUDGED:
        return
    blind = [info.name for info in explainers if info.control and info.name not in REFERENCES]
    rows = [findings.row(model.name, name, metric.name) for model in findings.models() for name in blind]
    means = [row["mean"] for row in rows if row is not None and np.isfinite(row["mean"])]
    if means:
        axes.axvspan(min(means), max(means), color=style.PALE, linewidth=0, zorder=0)


def _score_axis(axes: Axes, metric: MetricInfo) -> None:
    if metric.family == "cost":
        _log_axis(axes, metric.name, 3)
        return
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    left, right = axes.get_xlim()
    low = metric.low if np.isfinite(metric.low) else left
    high = metric.high if np.isfinite(metric.high) else right
    room = 0.02 * (right - left)
    axes.set_xlim(max(left, low - room), min(right, high + room))


def _log_axis(axes: Axes, metric: str, decades: int = 5) -> None:
    """Logarithmic with a place for zero at the left end, a decade below the smallest cost."""
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
    axes.set_xticks(_decades(threshold, values, decades))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(metric, value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def _decades(threshold: float, values: np.ndarray, most: int) -> list[float]:
    first, last = round(np.log10(threshold)), int(np.ceil(np.log10(max(values.max(), threshold))))
    step = max(1, -(-(last - first) // (most - 1)))
    zero = [0.0] if (values <= 0).any() else []
    return [*zero, *(10.0**power for power in range(first, last + 1, step))]


def _tick(metric: str, value: float) -> str:
    return format.duration(value) if metric == "seconds" else format.count(value)


def _by_rank(findings: RunAnalysis) -> list[ExplainerInfo]:
    ranked = [info for info in findings.explainers() if info.name in set(findings.ranks["explainer"])]
    means = dict(findings.ranks.groupby("explainer")["mean_rank"].mean()) if ranked else {}
    return sorted(ranked, key=lambda info: (info.control, means[info.name]))


def _rank_panels(findings: RunAnalysis) -> dict[str, str]:
    """Columns of the ranks, each with its title; none that would show what another shows."""
    families = {family: family.capitalize() for family in JUDGED if family in findings.ranks}
    if "mean_rank" not in findings.ranks:
        return families
    if not gate_failures(findings.gates):
        return {"mean_rank": ALL_PANEL, **(families if len(families) > 1 else {})}
    if len(families) > 1:
        return {"mean_rank": GATED_PANEL, "mean_rank_all": ALL_PANEL, **families}
    gated = ONE_FAMILY_PANEL.format(*families) if families else GATED_PANEL
    return {"mean_rank": gated, "mean_rank_all": ALL_PANEL}


def _rank_panel(axes: Axes, findings: RunAnalysis, column: str, explainers: list[ExplainerInfo]) -> None:
    heights, models = style.rows(explainers), findings.models()
    for place, model in enumerate(models):
        shift = 0.36 * ((len(models) - 1) / 2 - place) / max(1, len(models) - 1)
        for info in explainers:
            height, colour = heights[info.name] + shift, style.colour(place, info)
            singles = _single_ranks(findings, model.name, info.name, column)
            axes.plot(singles, [height] * len(singles), "|", color=colour, alpha=0.45, markersize=4)
            mean = findings.rank(model.name, info.name, column)
            axes.plot(mean, height, style.marker(place), color=colour, markersize=4.5)
    style.label_rows(axes, explainers, heights)
    last = int(findings.ranks["contestants"].max())
    axes.set_xlim(0.5, last + 0.5)
    axes.set_xticks(style.rank_ticks(last))
    axes.set_xlabel("← mean rank, 1 is best")


def _single_ranks(findings: RunAnalysis, model: str, explainer: str, column: str) -> list[float]:
    """Ranks on the metrics that the mean of this column is over."""
    left_out = gate_failures(findings.gates)
    metrics = [
        info.name
        for info in findings.data.metrics.values()
        if column == "mean_rank_all" or (column in ("mean_rank", info.family) and (model, info.name) not in left_out)
    ]
    rows = [findings.row(model, explainer, name) for name in metrics]
    return [row["rank"] for row in rows if row is not None and np.isfinite(row["rank"])]


def _cost_panel(
    axes: Axes, findings: RunAnalysis, model: str, place: int, cost: str
) -> tuple[list[float], list[float], list[str]]:
    x: list[float] = []
    y: list[float] = []
    texts: list[str] = []
    for info in findings.explainers():
        row, rank = findings.row(model, info.name, cost), findings.rank(model, info.name)
        if row is None or not np.isfinite(row["mean"]) or not np.isfinite(rank):
            continue
        axes.plot(row["mean"], rank, style.marker(place), color=style.colour(place, info), markersize=5)
        x, y, texts = [*x, row["mean"]], [*y, rank], [*texts, info.title]
    _log_axis(axes, cost)
    last = max([*findings.ranks["contestants"], 2]) if len(findings.ranks) else 2
    axes.set_ylim(last + 0.6, 0.4)
    axes.set_yticks(style.rank_ticks(int(last)))
    axes.set_ylabel("mean rank (1 is best, at the top)")
    metric = findings.data.metrics.get(cost)
    axes.set_xlabel(f"{format.metric_title(metric) if metric else cost} (log scale)")
    axes.grid(color="#EEEEEE", linewidth=0.6)
    axes.set_axisbelow(True)
    return x, y, texts


def _legend(figure: Figure, findings: RunAnalysis, narrow: bool, band: bool) -> None:
    models = findings.models()
    handles: list[Line2D | Patch] = [
        _key(f"on {format.shorten(model.title, 34)}", style.colour(place), style.marker(place))
        for place, model in enumerate(models)
    ]
    if any(info.control for info in findings.explainers()):
        handles.append(_key("controls (know nothing of the model)", style.GREY, ""))
    if band:
        handles.append(Patch(color=style.PALE, label="reach of the controls, mask aside"))
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=1 if narrow else 3 if len(handles) != 4 else 2)


def _key(label: str, colour: str, marker: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, label=label, linestyle="-", markersize=4)

"""Draw critical differences: mean ranks on a line, bars over explainers whose ranks do not differ significantly.

Drawn by scikit-posthocs after Demsar (JMLR 2006): Nemenyi's test at 5 %, the metrics of the run as its blocks. The own
explainer is bold, controls are grey.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import format
from benchmarks.report.figures import palette, style
from benchmarks.statistics import RankTest
from benchmarks.statistics.analysis import RunAnalysis

GAP = "\N{NO-BREAK SPACE}" * 2  # other spaces are lost in SVG
_LABEL_HEIGHT = 0.165  # inches
_BAR_HEIGHT = 2.1  # of the bar of the critical difference, above the line of ranks


@style.use_style
def critical_figure(analysis: RunAnalysis, narrow: bool = False) -> Figure:
    """Draw a panel for each network that has a rank test.

    Labels stand on both sides, or on the left alone when narrow.
    """
    tests = list(analysis.tests.values())
    heights = [(len(test.ranks) if narrow else -(-len(test.ranks) // 2)) + 6 for test in tests] or [4]
    width = style.NARROW if narrow else style.WIDE
    figure = Figure((width, 0.25 + _LABEL_HEIGHT * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, test in zip(panels, tests, strict=False):
        _draw_panel(axes, analysis, test, narrow)
    if not tests:
        panels[0].set_axis_off()
    return figure


def _draw_panel(axes: Axes, analysis: RunAnalysis, test: RankTest, narrow: bool) -> None:
    from scikit_posthocs import critical_difference_diagram

    names = [str(name) for name in test.ranks.index]
    # indices for names: the library walks sets, whose order of words changes from process to process
    indices = range(len(names))
    ranks = pd.Series(test.ranks.to_numpy(), index=indices)
    p_values = pd.DataFrame(test.p_values.loc[names, names].to_numpy(), index=indices, columns=indices)
    artists = critical_difference_diagram(
        ranks, p_values, ax=axes, left_only=narrow, label_fmt_left="{label}", label_fmt_right="{label}",
        text_h_margin=0.25, color_palette={i: _colour(analysis, names[i]) for i in indices},
        label_props={"fontsize": 7}, marker_props={"s": 9}, elbow_props={"linewidth": 0.7},
        crossbar_props={"linewidth": 2.2, "color": palette.INK, "solid_capstyle": "butt"},
    )  # fmt: skip
    for label in artists["labels"]:
        index = int(label.get_text())
        title = format.shorten(analysis.data.explainers[names[index]].title, 26)
        text = f"{title}{GAP}{format.decimals(ranks[index])}"
        label.set_text(f"{text}{GAP}" if label.get_horizontalalignment() == "right" else f"{GAP}{text}")
        label.set_fontweight("bold" if names[index] == analysis.own_explainer else "normal")
    axes.set_xlim(1, len(names))
    axes.set_xticks(style.rank_ticks(len(names)))
    axes.tick_params(axis="x", pad=1)
    model = analysis.data.models.get(test.model)
    axes.set_title(format.shorten(model.title if model else test.model, 44), pad=4)
    _draw_difference(axes, test)


def _draw_difference(axes: Axes, test: RankTest) -> None:
    """Draw the critical difference as a bar above the line of ranks."""
    longest = len(test.ranks) - 1.0
    end = 1 + min(test.critical, longest)
    axes.plot([1, end], [_BAR_HEIGHT, _BAR_HEIGHT], color=palette.INK, linewidth=1)
    axes.plot(1, _BAR_HEIGHT, "|", color=palette.INK, markersize=5)
    # an arrow where the difference is longer than the line
    axes.plot(end, _BAR_HEIGHT, "|" if test.critical <= longest else ">", color=palette.INK, markersize=5)
    axes.text(1, 3.0, f"critical difference {test.critical:.2f}", fontsize=7, va="center")
    axes.set_ylim(np.floor(axes.get_ylim()[0]), 3.6)


def _colour(analysis: RunAnalysis, name: str) -> str:
    if name == analysis.own_explainer:
        return palette.VERMILION
    info = analysis.data.explainers[name]
    if info.control:
        return palette.FAINT_INK
    return palette.BLUE if info.external else palette.PURPLE

"""The critical-difference figure: mean ranks on a line, bars over explainers that the metrics do not tell apart.

Drawn by scikit-posthocs after Demsar (JMLR 2006): Nemenyi's test at 5 %, the metrics of the run as its blocks. The own
explainer is bold, controls are grey.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import format
from benchmarks.report.figures import style
from benchmarks.statistics import RankTest
from benchmarks.statistics.analysis import RunAnalysis

GAP = "\N{NO-BREAK SPACE}" * 2  # other spaces are lost in SVG
_LINE = 0.165  # inches a label


@style.styled
def critical_figure(findings: RunAnalysis, narrow: bool = False) -> Figure:
    """One panel a model that has a rank test; labels on both sides, on the left alone when narrow."""
    tests = list(findings.tests.values())
    lines = [(len(test.ranks) if narrow else -(-len(test.ranks) // 2)) + 6 for test in tests] or [4]
    width = style.NARROW if narrow else style.WIDE
    figure = Figure((width, 0.25 + _LINE * sum(lines)), layout="constrained")
    panels = figure.subplots(len(lines), 1, squeeze=False, height_ratios=lines)[:, 0]
    for axes, test in zip(panels, tests, strict=False):
        _panel(axes, findings, test, narrow)
    if not tests:
        panels[0].set_axis_off()
    return figure


def _panel(axes: Axes, findings: RunAnalysis, test: RankTest, narrow: bool) -> None:
    from scikit_posthocs import critical_difference_diagram

    names = [str(name) for name in test.ranks.index]
    # numbers for names: the library walks sets, whose order of words changes from process to process
    places = range(len(names))
    ranks = pd.Series(test.ranks.to_numpy(), index=places)
    p_values = pd.DataFrame(test.p_values.loc[names, names].to_numpy(), index=places, columns=places)
    drawn = critical_difference_diagram(
        ranks, p_values, ax=axes, left_only=narrow, label_fmt_left="{label}", label_fmt_right="{label}",
        text_h_margin=0.25, color_palette={i: _colour(findings, names[i]) for i in places},
        label_props={"fontsize": 7}, marker_props={"s": 9}, elbow_props={"linewidth": 0.7},
        crossbar_props={"linewidth": 2.2, "color": style.INK, "solid_capstyle": "butt"},
    )  # fmt: skip
    for label in drawn["labels"]:
        place = int(label.get_text())
        title = format.shorten(findings.data.explainers[names[place]].title, 26)
        text = f"{title}{GAP}{format.rank(ranks[place])}"
        label.set_text(f"{text}{GAP}" if label.get_horizontalalignment() == "right" else f"{GAP}{text}")
        label.set_fontweight("bold" if names[place] == findings.own_explainer else "normal")
    axes.set_xlim(1, len(names))
    axes.set_xticks(style.rank_ticks(len(names)))
    axes.tick_params(axis="x", pad=1)
    model = findings.data.models.get(test.model)
    axes.set_title(format.shorten(model.title if model else test.model, 44), pad=4)
    _difference(axes, test)


def _difference(axes: Axes, test: RankTest) -> None:
    """The bar that says how far apart two mean ranks must be, above the line, and the panel's title."""
    longest = len(test.ranks) - 1.0
    end = 1 + min(test.critical, longest)
    axes.plot([1, end], [2.1, 2.1], color=style.INK, linewidth=1)
    axes.plot(1, 2.1, "|", color=style.INK, markersize=5)
    # an arrow where the difference is longer than the line
    axes.plot(end, 2.1, "|" if test.critical <= longest else ">", color=style.INK, markersize=5)
    axes.text(1, 3.0, f"critical difference {test.critical:.2f}", fontsize=7, va="center")
    axes.set_ylim(np.floor(axes.get_ylim()[0]), 3.6)


def _colour(findings: RunAnalysis, name: str) -> str:
    if name == findings.own_explainer:
        return style.COLOURS[1]
    return "#6B6B6B" if findings.data.explainers[name].control else style.COLOURS[0]

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.reports import visible_panels, with_random_first
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

from benchmarks.report import analyse
from benchmarks.report.figures.scores import cost_figure, ranks_figure, scores_figure
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import RunAnalysis

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(("family", "panels"), [("localisation", 4), ("faithfulness", 6)])
def test_scores_have_a_panel_per_metric(analysis: RunAnalysis, family: str, panels: int, narrow: bool) -> None:
    figure = scores_figure(analysis, (family,), narrow)
    shown = visible_panels(figure)
    assert len(shown) == panels
    titles = {axes.get_title(loc="left").replace("\n", " ").replace("\xa0", " ") for axes in shown}
    assert titles == {info.title for info in analysis.metrics(family)}
    labels = [text.get_text() for text in shown[0].get_yticklabels()]
    assert labels[0] == "LAP (own)"
    assert len(labels) == 10
    assert all("is better" in axes.get_xlabel() for axes in shown)
    assert figure.get_size_inches()[0] == pytest.approx(3.5 if narrow else 7.2)


def test_a_dot_stands_at_the_mean_and_a_bar_spans_the_interval(analysis: RunAnalysis) -> None:
    axes = next(
        a for a in visible_panels(scores_figure(analysis, ("localisation",))) if a.get_title(loc="left") == "AUC"
    )
    row = analysis.row("lap", "shap", "auc")
    assert row is not None
    spans = [tuple(line.get_xdata()) for line in axes.lines]
    assert (row["ci_low"], row["ci_high"]) in spans
    assert (row["mean"],) in spans


def test_descriptors_and_costs_share_a_figure_with_log_costs(analysis: RunAnalysis) -> None:
    scales = [axes.get_xscale() for axes in visible_panels(scores_figure(analysis, ("descriptor", "cost")))]
    assert scales == ["linear", "log", "symlog"]


def test_ranks_have_a_panel_for_all_and_one_per_family(analysis: RunAnalysis) -> None:
    shown = visible_panels(ranks_figure(analysis))
    assert [axes.get_title(loc="left") for axes in shown] == ["All ranked metrics", "Localisation", "Faithfulness"]
    labels = [text.get_text() for text in shown[0].get_yticklabels()]
    assert "Evidence mask" not in labels
    assert len(labels) == 9


def test_the_panel_says_where_metrics_are_left_out_of_the_mean(analysis: RunAnalysis) -> None:
    gates = analysis.gates.assign(verdict="passed")
    for verdict, title in (("passed", "All ranked metrics"), ("failed", "Metrics that pass the gate")):
        gates.loc[gates.index[0], "verdict"] = verdict
        shown = visible_panels(ranks_figure(replace(analysis, gates=gates)))
        assert " ".join(shown[0].get_title(loc="left").split()) == title
    titles = [axes.get_title(loc="left") for axes in shown]
    assert titles[1:] == ["All ranked metrics", "Localisation", "Faithfulness"]


@pytest.mark.parametrize(
    ("verdict", "titles"),
    [
        ("passed", ["All ranked metrics"]),
        ("failed", ["Metrics that pass the gate, all of localisation", "All ranked metrics"]),
    ],
)
def test_no_panel_of_ranks_shows_what_another_shows(analysis: RunAnalysis, verdict: str, titles: list[str]) -> None:
    gates = analysis.gates.assign(verdict="passed")
    gates.loc[gates.index[0], "verdict"] = verdict
    alone = replace(analysis, gates=gates, ranks=analysis.ranks.drop(columns="faithfulness"))
    assert [" ".join(axes.get_title(loc="left").split()) for axes in visible_panels(ranks_figure(alone))] == titles


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("cost", ["forwards", "seconds"])
def test_cost_labels_do_not_overlap(analysis: RunAnalysis, cost: str, narrow: bool) -> None:
    figure = cost_figure(analysis, cost, narrow)
    assert len(visible_panels(figure)) == 2
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes, count in zip(visible_panels(figure), (8, 9), strict=True):
        texts = [child for child in axes.get_children() if isinstance(child, Annotation) and child.get_text()]
        boxes = [text.get_window_extent(renderer) for text in texts]
        assert len(texts) == count
        assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]


@pytest.mark.parametrize(("place", "metrics"), [(0, 6), (1, 7)])  # those that pass the gate, then all
def test_ticks_of_mean_ranks_are_those_the_mean_is_of(place: int, metrics: int) -> None:
    panel = ranks_figure(analyse(with_random_first("fc"), Resampling(resamples=50))).axes[place]
    page_tables = [line for line in panel.lines if line.get_marker() == "|"]
    dots = [line for line in panel.lines if line.get_marker() != "|" and len(line.get_xdata()) == 1]
    assert len(page_tables) == len(dots) > 0
    shown = [(ticks, dot) for ticks, dot in zip(page_tables, dots, strict=True) if len(ticks.get_xdata())]
    assert len(shown) > len(page_tables) // 2
    for ticks, dot in shown:
        assert len(ticks.get_xdata()) == metrics
        assert np.mean(ticks.get_xdata()) == pytest.approx(dot.get_xdata()[0])

from __future__ import annotations

import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.reports import analyse_shifted

from benchmarks.report import RunData, analyse, run_tables
from benchmarks.report.page import render_page
from benchmarks.report.summary_text import MAX_NAMES, accuracy_sentence, caveats, network_summaries, other_networks
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import RunAnalysis


@pytest.mark.slow
def test_a_win_on_all_metrics_has_no_opponent_ahead() -> None:
    (summary,) = network_summaries(analyse_shifted("lap", 2))
    assert sum(len(metric.external["ahead"]) for metric in summary.metrics) == 28
    assert all(not metric.external["behind"] for metric in summary.metrics)


@pytest.mark.slow
def test_a_loss_on_all_metrics_is_behind_everywhere_and_controls_are_named() -> None:
    analysis = analyse_shifted("lap", -2)
    (summary,) = network_summaries(analysis)
    assert sum(len(metric.external["behind"]) for metric in summary.metrics) == 28
    assert "Not ahead of the controls" in render_page(analysis, [])


def test_the_verdicts_by_metric_agree_with_the_paired_table(analysis: RunAnalysis) -> None:
    (summary,) = network_summaries(analysis)
    externals = analysis.paired[analysis.paired["explainer"].isin(["grad_cam", "integrated_gradients", "lime", "shap"])]
    for verdict in ("ahead", "level", "behind"):
        listed = sum(len(metric.external[verdict]) for metric in summary.metrics)
        assert listed == (externals["verdict"] == verdict).sum()


def test_the_twin_is_named_with_its_best_explainer_and_accuracy(analysis: RunAnalysis) -> None:
    text = " ".join([*other_networks(analysis), accuracy_sentence(analysis)])
    best = analysis.ranks[analysis.ranks["model"] == "plain"].iloc[0]["explainer"]
    assert analysis.data.explainers[best].title in text
    assert all(share in text for share in ("95.3 %", "94.8 %"))


@pytest.mark.slow
def test_unequal_numbers_of_images_are_told(analysis: RunAnalysis) -> None:
    data = analysis.data
    gap = (data.scores["explainer"] == "lime") & (data.scores["image_id"] == "test-0001")
    partial = analyse(RunData(data.record, data.scores[~gap]), Resampling(resamples=20))
    assert "fewer images than others" in caveats(partial)[0]
    assert "fewer" not in " ".join(caveats(analysis))


def test_one_seed_is_said_to_cover_images_alone(full_analysis: RunAnalysis, full_page: str) -> None:
    assert "The intervals cover the choice of images, not of the training run." in " ".join(caveats(full_analysis))
    assert "Test-retest" not in full_page


def test_other_maps_of_the_network_are_not_called_external() -> None:
    data = RunData(synthetic.with_kinds({"shap": "amortised", "lime": "optimised"}), synthetic.scores())
    analysis = analyse(data, Resampling(resamples=20))
    (summary,) = network_summaries(analysis)
    named = {
        kind: {title for metric in summary.metrics for titles in getattr(metric, kind).values() for title in titles}
        for kind in ("external", "other_maps", "controls")
    }
    assert named["external"] == {"Grad-CAM", "Integrated Gradients"}
    assert named["other_maps"] == {"SHAP", "LIME"}
    assert not named["controls"] & {"SHAP", "LIME"}
    assert any("against the network's other maps" in sentence for sentence in summary.sentences)
    page = render_page(analysis, [])
    assert "learned beside the network" in page
    assert "optimised on the image" in page
    roles = {line["title"] for line in run_tables.networks(analysis)["lines"] if line["role"] == "best external"}
    assert not roles & {"SHAP", "LIME"}


def test_many_external_ones_are_counted_and_the_other_maps_named() -> None:
    names = [f"method{i}" for i in range(MAX_NAMES + 1)]
    entries = [*synthetic.meta()["explainers"], *({"name": name, "title": name.title()} for name in names)]
    scores = synthetic.scores(images=4)
    more = [scores[scores["explainer"] == "shap"].assign(explainer=name) for name in names]
    entries[4]["kind"] = "amortised"
    record = synthetic.record(explainers=entries)
    analysis = analyse(RunData(record, pd.concat([scores, *more])), Resampling(resamples=2))
    (summary,) = network_summaries(analysis)
    (cost,) = (sentence for sentence in summary.sentences if sentence.startswith("One explanation takes"))
    assert "SHAP takes 500" in cost
    assert f"the {MAX_NAMES + 4} external ones take" in cost

"""The verdict: three sentences for any run, whose numbers are those of the tables."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from helpers import runs as synthetic

from benchmarks.report import RunData, analyse, format
from benchmarks.report.verdict import Verdict, judge, networks_with_ranks, position, standings
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.record import RunRecord

pytestmark = pytest.mark.slow

FEW = Resampling(resamples=50)


def shift_scores(explainer: str, by: float, images: int = 16) -> RunData:
    """The made-up run with one explainer better (or worse) on every score."""
    data = synthetic.run(images=images)
    scores = data.scores.copy()
    is_lower_better = scores["metric"].isin(["pf_morf"])
    rows = scores["explainer"] == explainer
    scores.loc[rows, "value"] += np.where(is_lower_better[rows], -by, by)
    return RunData(data.record.model_copy(deep=True), scores)


def keep_explainers(data: RunData, *names: str) -> RunData:
    return RunData(data.record, data.scores[data.scores["explainer"].isin(names)])


def keep_model(data: RunData, name: str) -> RunData:
    models = [model for model in data.record.models if model.name == name]
    record = data.record.model_copy(update={"models": models})
    return RunData(record, data.scores[data.scores["model"] == name])


def check_sentences(verdict: Verdict) -> None:
    assert len(verdict.sentences) == 3
    for sentence in verdict.sentences:
        assert sentence.endswith(".")
        assert sentence[0].isupper()
        assert not re.search(r"\bnan\b|None|\de[+-]|\s\s", sentence)


def numbers(text: str) -> set[str]:
    return set(re.findall(r"−?\d+\.\d+", text))


def allowed_numbers(analysis: RunAnalysis) -> set[str]:
    """All numbers of the tables, as the page writes them, and the differences of two mean ranks."""
    ranks = analysis.ranks[["mean_rank", "rank_low", "rank_high"]].to_numpy(dtype=float).ravel()
    means = analysis.ranks["mean_rank"].to_numpy(dtype=float)
    leads = (means[:, None] - means[None, :]).ravel()
    scores = analysis.summary["mean"].to_numpy(dtype=float)
    return {format.decimals(value) for value in [*ranks, *leads]} | {format.number(value) for value in scores}


def test_the_first_and_those_behind_it_are_named_with_the_ranks_of_the_table() -> None:
    analysis = analyse(shift_scores("lap", 2), FEW)
    verdict = judge(analysis)
    check_sentences(verdict)
    first, second, third = standings(analysis, "lap")[:3]
    assert first.explainer == "lap"
    assert verdict.leader.startswith("LAP (own)")
    for row in (first, second, third):
        assert format.decimals(row.mean_rank) in verdict.leader
        assert analysis.title(row.explainer) in verdict.leader
    assert format.decimals(second.mean_rank - first.mean_rank) in verdict.certainty
    assert analysis.title(second.explainer) in verdict.certainty


@pytest.mark.parametrize("explainer", ["lap", "lime", "random", "mask"])
@pytest.mark.parametrize("by", [-2.0, -0.1, 0.1, 2.0])
def test_all_numbers_are_those_of_the_tables(explainer: str, by: float) -> None:
    analysis = analyse(shift_scores(explainer, by), FEW)
    verdict = judge(analysis)
    check_sentences(verdict)
    assert numbers(" ".join(verdict.sentences)) <= allowed_numbers(analysis)


def test_it_is_certain_exactly_where_the_intervals_are_apart() -> None:
    for by in (0.0, 0.05, 2.0):
        analysis = analyse(shift_scores("lap", by), FEW)
        first, second = standings(analysis, "lap")[:2]
        assert ("do not overlap" in judge(analysis).certainty) == (first.high < second.low)


def test_a_lap_that_loses_is_placed_with_the_metrics_it_loses_on() -> None:
    analysis = analyse(shift_scores("lap", -2), FEW)
    verdict = judge(analysis)
    assert not verdict.leader.startswith("LAP (own)")
    assert f"comes {format.ordinal(position(standings(analysis, 'lap'), 'lap'))}" in verdict.losses
    assert "on 7 of 7 metrics" in verdict.losses


def test_a_control_that_is_first_is_called_a_control() -> None:
    data = keep_model(shift_scores("edges", 0.9), "lap")
    analysis = analyse(data, FEW)
    verdict = judge(analysis)
    check_sentences(verdict)
    assert standings(analysis, "lap")[0].explainer == "edges"
    assert verdict.leader.startswith("The control Edges is first")


def test_losses_count_the_metrics_with_a_comparison_behind() -> None:
    analysis = analyse(shift_scores("lap", -0.1), FEW)
    rows = analysis.paired[(analysis.paired["model"] == "lap") & (analysis.paired["explainer"] != "mask")]
    failed = set(analysis.gates[analysis.gates["verdict"] == "failed"]["metric"])
    rows = rows[~rows["metric"].isin(failed)]
    lost = rows[rows["verdict"] == "behind"]["metric"].nunique()
    assert f"on {lost} of {rows['metric'].nunique()} metrics" in judge(analysis).losses


def test_a_run_without_lap_names_the_weakest_metric_of_the_winner() -> None:
    analysis = analyse(keep_model(synthetic.run(images=16), "plain"), FEW)
    verdict = judge(analysis)
    check_sentences(verdict)
    assert "LAP" not in " ".join(verdict.sentences)
    winner = standings(analysis, "plain")[0].explainer
    rows = analysis.summary[(analysis.summary["explainer"] == winner)].dropna(subset=["rank"])
    assert format.rank(rows["rank"].max()) in verdict.losses


def test_one_explainer_has_no_opponent() -> None:
    verdict = judge(analyse(keep_explainers(synthetic.run(images=4), "lap", "mask"), FEW))
    check_sentences(verdict)
    assert "only ranked explainer" in verdict.leader
    controls = judge(analyse(keep_explainers(synthetic.run(images=1), "random", "mask"), FEW))
    check_sentences(controls)
    assert "control Random is the only" in controls.leader


@pytest.mark.parametrize("data", [RunData(RunRecord(), pd.DataFrame()), RunData(synthetic.record(), pd.DataFrame())])
def test_a_run_without_scores_says_so(data: RunData) -> None:
    verdict = judge(analyse(data, FEW))
    check_sentences(verdict)
    assert "No scores" in verdict.leader


def test_an_unfinished_run_says_so_far() -> None:
    data = shift_scores("lap", 2)
    data.record.finished = None
    verdict = judge(analyse(data, FEW))
    check_sentences(verdict)
    assert verdict.leader.startswith("So far, ")


def test_one_image_gives_no_certainty() -> None:
    verdict = judge(analyse(synthetic.run(images=1), FEW))
    check_sentences(verdict)
    assert "firm" not in verdict.certainty


def test_no_metric_that_tells_means_no_first_place() -> None:
    data = synthetic.run(images=16)
    scores = data.scores.copy()
    scores.loc[scores["explainer"] == "random", "value"] += 5
    verdict = judge(analyse(RunData(data.record, scores), FEW))
    check_sentences(verdict)
    assert "tells good maps from bad ones" in verdict.leader


def rename_model(data: RunData, name: str) -> RunData:
    """The network with LAP under another name and title."""
    lap = next(model for model in data.record.models if model.name == "lap")
    renamed = lap.model_copy(update={"name": name, "title": name})
    record = data.record.model_copy(update={"models": [renamed]})
    return RunData(record, data.scores[data.scores["model"] == "lap"].assign(model=name))


@pytest.mark.parametrize(("by", "count"), [((2, 2), 2), ((2, -2), 1), ((-2, -2), 0)])
def test_several_networks_are_counted(by: tuple[float, float], count: int) -> None:
    runs = [rename_model(shift_scores("lap", shift), f"net{index}") for index, shift in enumerate(by)]
    models = [model for run in runs for model in run.record.models]
    record = runs[0].record.model_copy(update={"models": models})
    analysis = analyse(RunData(record, pd.concat([run.scores for run in runs], ignore_index=True)), FEW)
    verdict = judge(analysis)
    check_sentences(verdict)
    assert f"{count or 'none'} of 2 networks" in verdict.leader
    losers = [f"net{index}" for index, shift in enumerate(by) if shift < 0]
    assert all(name in verdict.losses for name in losers)
    assert numbers(" ".join(verdict.sentences)) <= allowed_numbers(analysis)


def test_networks_that_lap_explains_come_first() -> None:
    assert [model.name for model in networks_with_ranks(analyse(synthetic.run(images=4), FEW))] == ["lap", "plain"]

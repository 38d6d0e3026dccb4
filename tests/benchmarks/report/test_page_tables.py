from __future__ import annotations

import pytest
from helpers.reports import Section

from benchmarks.report import format, page_tables
from benchmarks.statistics.analysis import RunAnalysis

pytestmark = pytest.mark.slow


def test_the_card_has_the_winner_beside_the_runner_up(analysis: RunAnalysis) -> None:
    card = page_tables.card(analysis, analysis.data.models["lap"])
    ranks = analysis.ranks[analysis.ranks["model"] == "lap"].sort_values("mean_rank")
    names = list(ranks["explainer"].head(2))
    assert [column["title"] for column in card["columns"]][:2] == [analysis.title(name) for name in names]
    rows = {row["label"]: [cell[0] for cell in row["cells"]][:2] for row in card["rows"]}
    assert rows["Mean rank"] == [format.decimals(value) for value in ranks["mean_rank"].head(2)]
    for family in ("localisation", "faithfulness"):
        assert rows[family.capitalize()] == [format.decimals(value) for value in ranks[family].head(2)]
    costs = {cost: [analysis.row("lap", name, cost) for name in names] for cost in ("forwards", "seconds")}
    assert rows["Forward passes"] == [format.count(row["mean"]) for row in costs["forwards"] if row is not None]
    assert rows["Time"] == [format.duration(row["mean"]) for row in costs["seconds"] if row is not None]


def test_networks_are_compared_between_random_and_mask(full_analysis: RunAnalysis) -> None:
    arms = page_tables.networks(full_analysis)
    assert [(line["model"], line["role"]) for line in arms["lines"]] == [
        ("test_resnet, plain", "best external"),
        ("test_resnet with LAP", "own"),
        ("test_resnet with LAP", "best external"),
    ]
    assert all(0 < value < 1 for line in arms["lines"] for value in line["cells"])


def test_transformed_maps_stand_in_the_ablations_and_nowhere_else(full_analysis: RunAnalysis, full_page: str) -> None:
    assert not any("@" in name for name in full_analysis.data.explainers)
    assert not full_analysis.summary["explainer"].str.contains("@").any()
    assert not full_analysis.degenerate["explainer"].str.contains("@").any()
    assert set(full_analysis.transform_effects["explainer"]) == {"lap", "grad_cam"}
    (board,) = [
        board
        for board in page_tables.ablations(full_analysis)
        if board["title"].startswith("smooth2, test_resnet with")
    ]
    assert {line["title"] for line in board["lines"]} == {"LAP (own)", "Grad-CAM"}
    before = [line["before"] for line in board["lines"]]
    assert before == sorted(before)
    assert sum(before) == pytest.approx(3)
    text = Section(full_page, "ablations").text
    assert "smooth2, test_resnet with LAP" in text
    assert "better" in text

from __future__ import annotations

import pytest
from helpers.reports import Section

from benchmarks.report import run_tables
from benchmarks.statistics.analysis import RunAnalysis

pytestmark = pytest.mark.slow


def test_networks_are_compared_between_random_and_mask(full_analysis: RunAnalysis) -> None:
    arms = run_tables.networks(full_analysis)
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
        board for board in run_tables.ablations(full_analysis) if board["title"].startswith("smooth2, test_resnet with")
    ]
    assert {line["title"] for line in board["lines"]} == {"LAP (own)", "Grad-CAM"}
    before = [line["before"] for line in board["lines"]]
    assert before == sorted(before)
    assert sum(before) == pytest.approx(3)
    text = Section(full_page, "ablations").text
    assert "smooth2, test_resnet with LAP" in text
    assert "better" in text

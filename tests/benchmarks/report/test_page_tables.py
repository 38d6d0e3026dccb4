from __future__ import annotations

import pytest

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

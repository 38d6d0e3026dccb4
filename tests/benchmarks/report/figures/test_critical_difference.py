from __future__ import annotations

import pytest
from helpers import runs as synthetic
from helpers.reports import visible_panels

from benchmarks.report import RunData, analyse, format
from benchmarks.report.figures.critical_difference import critical_figure
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import RunAnalysis


@pytest.mark.parametrize("narrow", [False, True])
def test_the_critical_difference_names_every_contestant_at_its_rank(analysis: RunAnalysis, narrow: bool) -> None:
    panels = visible_panels(critical_figure(analysis, narrow))
    assert len(panels) == 2
    test = analysis.tests["lap"]
    texts = [" ".join(text.get_text().split()) for text in panels[1].texts]
    for name, rank in test.ranks.items():
        assert f"{analysis.data.explainers[str(name)].title} {format.decimals(rank)}" in texts
    assert any(f"critical difference {test.critical:.2f}" in text for text in texts)
    (bold,) = [text for text in panels[1].texts if text.get_fontweight() == "bold"]
    assert bold.get_text().strip().startswith("LAP (own)")


def test_a_further_map_of_the_network_has_a_colour_of_its_own() -> None:
    data = RunData(synthetic.with_kinds({"shap": "amortised"}), synthetic.scores())
    panels = visible_panels(critical_figure(analyse(data, Resampling(resamples=2)), narrow=False))
    colours = {text.get_text().split()[0]: text.get_color() for text in panels[1].texts if text.get_text().strip()}
    assert colours["SHAP"] not in {colours["LIME"], colours["LAP"], colours["Random"]}

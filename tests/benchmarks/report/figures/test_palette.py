from __future__ import annotations

import re

import pytest

from benchmarks.report.figures import palette
from benchmarks.report.figures import svg as svg_files
from benchmarks.report.figures.figure_set import make_figure_set
from benchmarks.statistics.analysis import RunAnalysis

pytestmark = pytest.mark.slow


def test_the_page_darkens_its_figures_and_the_files_do_not(full_analysis: RunAnalysis) -> None:
    dark_of = {str(colour): colour.dark for colour in palette.FIGURES}
    figures = make_figure_set(full_analysis, forms=())
    assert len(figures) > 8
    for figure in figures:
        svg = figure.wide["svg"].decode()
        used = {match.lower() for match in re.findall(r"(?:fill|stroke): (#[0-9a-fA-F]{6})", svg)}
        assert used <= set(dark_of), figure.name
        assert "prefers-color-scheme" not in svg
        light, dark = svg_files.for_page(svg.encode()).decode().split("@media (prefers-color-scheme:dark)")
        variables = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", light))
        assert set(variables.values()) == used
        assert set(re.findall(r"var\(--([\w-]+)\)", light)) == set(variables)
        assert dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", dark)) == {
            name: dark_of[value] for name, value in variables.items()
        }


def test_colours_can_be_told_by_name_and_those_of_figures_by_value() -> None:
    assert len({colour.name for colour in palette.FIGURES}) == len(set(palette.FIGURES)) == len(palette.FIGURES)
    assert len({colour.name for colour in palette.PAGE}) == len(palette.PAGE)

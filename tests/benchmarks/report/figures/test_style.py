from __future__ import annotations

import io
import re

import pytest
from helpers import runs as synthetic
from matplotlib import rcParams
from PIL import Image

from benchmarks.report.figures import palette, style
from benchmarks.report.figures.scores import ranks_figure, scores_figure
from benchmarks.statistics.analysis import RunAnalysis

pytestmark = pytest.mark.slow


def test_models_differ_by_colour_and_marker() -> None:
    assert style.colour_of(0) != style.colour_of(1)
    assert style.marker_of(0) != style.marker_of(1)
    assert len({(style.colour_of(place), style.marker_of(place)) for place in range(36)}) == 36
    control = synthetic.run(images=2).explainers["random"]
    assert style.colour_of(0, control) == style.colour_of(1, control) == palette.CONTROL


def test_figures_leave_global_settings_alone_and_ignore_them(analysis: RunAnalysis) -> None:
    before = dict(rcParams)
    first = style.render(ranks_figure(analysis), "svg")
    assert dict(rcParams) == before
    rcParams["font.size"] = 30
    try:
        assert style.render(ranks_figure(analysis), "svg") == first
    finally:
        rcParams["font.size"] = before["font.size"]


def test_type_is_no_smaller_than_seven_points(analysis: RunAnalysis) -> None:
    text = style.render(scores_figure(analysis, ("faithfulness",), True), "svg").decode()
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:bold )?([\d.]+)px", text)]
    assert sizes
    assert min(sizes) >= 7


def test_png_is_a_picture(analysis: RunAnalysis) -> None:
    picture = Image.open(io.BytesIO(style.render(ranks_figure(analysis), "png")))
    assert picture.size[0] == pytest.approx(7.2 * style.DPI, abs=1)


def test_pdf_embeds_its_fonts(full_analysis: RunAnalysis) -> None:
    content = style.render(ranks_figure(full_analysis), "pdf")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


def test_every_form_repeats_byte_for_byte(full_analysis: RunAnalysis) -> None:
    for form in ("png", "svg", "pdf"):
        first, second = (style.render(ranks_figure(full_analysis), form) for _ in range(2))
        assert first == second

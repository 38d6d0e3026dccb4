from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import pytest
from fontTools.ttLib import TTFont

from benchmarks.report.figures import style
from benchmarks.report.figures import svg as svg_files
from benchmarks.report.figures.scores import ranks_figure, scores_figure
from benchmarks.statistics.analysis import RunAnalysis

pytestmark = pytest.mark.slow


def test_svg_keeps_text_and_has_no_date(analysis: RunAnalysis) -> None:
    text = style.render(scores_figure(analysis, ("localisation",)), "svg").decode()
    assert "Integrated Gradients</text>" in text
    assert "<dc:date>" not in text


def test_svg_carries_the_letters_it_uses(full_analysis: RunAnalysis) -> None:
    text = style.render(ranks_figure(full_analysis), "svg").decode()
    fonts = re.findall(r"font-weight:(\d+);src:url\(data:font/woff;base64,([^)]+)\)", text)
    assert [weight for weight, _ in fonts] == ["400", "700"]
    font = TTFont(io.BytesIO(base64.b64decode(fonts[0][1])))
    assert {ord(letter) for letter in "LAP (own)Grad-CAM"} <= set(font.getBestCmap())
    assert len(font.getBestCmap()) < 80


def test_the_pages_figures_are_smaller_and_draw_the_same(full_analysis: RunAnalysis) -> None:
    svg = style.render(ranks_figure(full_analysis), "svg")
    whole, small = ElementTree.fromstring(svg), ElementTree.fromstring(svg_files.for_page(svg))
    assert len(svg_files.for_page(svg)) < 0.6 * len(svg)
    for tag in ("path", "use", "text"):
        parts = [list(root.iter(f"{{http://www.w3.org/2000/svg}}{tag}")) for root in (whole, small)]
        assert len(parts[0]) == len(parts[1]) > 0
        assert [part.text for part in parts[0]] == [part.text for part in parts[1]]
        assert [str(p.get("d")).split() for p in parts[0]] == [str(p.get("d")).split() for p in parts[1]]
    assert "style" not in {name for element in small.iter() for name in element.attrib}

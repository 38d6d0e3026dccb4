from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.reports import NOTHING

from benchmarks.report import RunData
from benchmarks.report.figures import style
from benchmarks.report.figures.gallery import gallery_figure, label_text, overlay, scale_map
from benchmarks.statistics.analysis import RunAnalysis


@pytest.mark.slow
def test_gallery_has_pictures_explainers_and_marks_empty_maps(analysis: RunAnalysis) -> None:
    figure = gallery_figure(analysis.data, "lap")
    assert len(figure.axes) == 6 * 11
    notes = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert notes == ["no map\n(NaN)"]
    plain = gallery_figure(analysis.data, "plain", narrow=True)
    assert len(plain.axes) == 4 * 10
    assert [text.get_text() for axes in plain.axes for text in axes.texts] == ["no map\n(constant)"]


def test_captions_of_the_gallery_are_one_short_name() -> None:
    assert label_text("teapot") == "teapot"
    assert label_text("ladybug, ladybeetle, lady beetle, ladybird, ladybird beetle") == "ladybug"
    assert label_text("Rhodesian ridgeback") == "Rhodesian ri…"


def test_gallery_needs_a_gallery() -> None:
    with pytest.raises(ValueError, match="no gallery"):
        gallery_figure(NOTHING, "lap")


@pytest.mark.slow
def test_the_same_gallery_gives_the_same_bytes() -> None:
    data = RunData(synthetic.record(), pd.DataFrame(), synthetic.gallery(images=1, size=16))
    first, second = (style.render(gallery_figure(data, "lap"), "svg") for _ in range(2))
    assert first == second


def test_maps_are_scaled_by_themselves() -> None:
    values = np.array([[-2.0, 0.0], [1.0, 4.0]])
    assert scale_map(values, signed=True).tolist() == [[0, 0], [0.25, 1]]  # type: ignore[union-attr]
    assert scale_map(values, signed=False).tolist() == [[0, 1 / 3], [0.5, 1]]  # type: ignore[union-attr]
    assert scale_map(-np.ones((2, 2)) * [[1, 2], [3, 4]], signed=True).tolist() == [[0, 0], [0, 0]]  # type: ignore[union-attr]
    assert scale_map(np.full((2, 2), 3.0), signed=False) is None
    assert scale_map(np.array([[np.nan, 1.0]]), signed=False) is None
    painted = overlay(np.full((2, 2, 3), 255, np.uint8), np.array([[0.0, 1.0], [0.5, 0.5]]))
    assert painted.shape == (2, 2, 3)
    assert (painted[0, 0] < painted[0, 1]).all()

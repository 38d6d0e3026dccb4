"""The figure of the zoo: networks in order, limits drawn, the same bytes each time."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.zoo_rows import results, row

from benchmarks.speed.zoo_figure import zoo_figure, zoo_png

pytestmark = pytest.mark.slow


class TestFigure:
    ROWS = (
        row("a", "forward", 1.01),
        row("b", "forward", 1.2),
        row("b", "explain", 1.1),
        row("a", "forward memory", 1.0),
    )

    def test_networks_by_forward_ratio_and_what_was_asked(self) -> None:
        time, memory = zoo_figure(results(*self.ROWS)).axes
        assert [label.get_text() for label in time.get_yticklabels()] == ["a", "b"]
        series = [(line.get_marker(), np.asarray(line.get_xdata()).tolist()) for line in time.lines]
        assert ("o", [1.01, 1.2]) in series
        limits = {positions[0] for marker, positions in series if marker == "None"}
        assert limits == {1.0, 1.03, 1.05, 1.08}
        assert time.get_xlim()[1] > 1.2
        assert memory.get_title(loc="left") == "peak memory, float32"

    def test_same_figures_same_bytes(self) -> None:
        assert zoo_png(results(*self.ROWS)) == zoo_png(results(*self.ROWS))

    def test_without_forward_passes(self) -> None:
        assert zoo_png(results(row("a", "explain", 1.1), row("b", "explain", 1.0)))[:4] == b"\x89PNG"

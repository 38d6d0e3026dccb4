from __future__ import annotations

import io

from PIL import Image

from benchmarks.report.figures.pairs import TILE, strip
from benchmarks.statistics.analysis import RunAnalysis


def test_a_strip_has_three_tiles_and_hatches_empty_maps(full_analysis: RunAnalysis) -> None:
    example = next(e for e in full_analysis.examples if e.explainer == "lime")
    picture = Image.open(io.BytesIO(strip(full_analysis.data, example, "lap")))
    factor = round(TILE / 32)
    assert picture.size == (3 * 32 * factor + 2 * 4, 32 * factor)
    assert len(strip(full_analysis.data, example, "lap")) < 40_000

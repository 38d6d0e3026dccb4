"""Boxes are repaired, cut to the image, or dropped."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from interp_core.datasets import Box, Finding
from interp_core.datasets.files.boxes import repair_box

corner = st.one_of(st.floats(-50, 50), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 30.0]))


@given(st.tuples(corner, corner, corner, corner), st.sampled_from([None, (30, 20)]))
def test_a_box_marks_what_it_marked_within_the_image_or_nothing(
    corners: tuple[float, ...], size: tuple[int, int] | None
) -> None:
    findings: list[Finding] = []
    box = repair_box(corners, "t.csv, row 1", findings, 3, size)
    if box is None:
        assert "left out" in findings[-1].what
        return
    x0, x1 = sorted((corners[0], corners[2]))
    y0, y1 = sorted((corners[1], corners[3]))
    wide, high = size or (math.inf, math.inf)
    assert box == Box(max(x0, 0), max(y0, 0), min(x1, wide), min(y1, high), 3)
    assert box.x0 < box.x1
    assert box.y0 < box.y1
    assert bool(findings) == (tuple(corners) != (box.x0, box.y0, box.x1, box.y1))

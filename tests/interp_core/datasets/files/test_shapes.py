"""Polygons and run lengths of COCO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp_core.datasets.files.shapes import decode_counts, shape_of

SIZE = (6, 4)  # width, height


def draw(segmentation: Any) -> np.ndarray:
    return shape_of(segmentation, Path("a.json"), 0, SIZE).draw((99, 99))


def square() -> np.ndarray:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    return mask


@pytest.mark.parametrize(
    "segmentation",
    [
        [[2, 1, 5, 1, 5, 3, 2, 3]],
        [2, 1, 5, 1, 5, 3, 2, 3],
        [["2", "1", "5", "1", "5", "3", "2", "3"]],
        {"size": [4, 6], "counts": [9, 2, 2, 2, 2, 2, 5]},
        {"size": [4, 6], "counts": "9220003"},
        {"size": [4, 6], "counts": b"9220003"},
    ],
)
def test_a_square_in_every_form(segmentation: Any) -> None:
    np.testing.assert_array_equal(draw(segmentation), square())


def test_compressed_runs_are_differences() -> None:
    assert decode_counts("9220003") == [9, 2, 2, 2, 2, 2, 5]
    assert decode_counts("0") == [0]


def test_a_polygon_without_a_pixel_centre_marks_its_box() -> None:
    mask = draw([[2.6, 1.6, 2.8, 1.6, 2.8, 1.8]])
    assert np.argwhere(mask).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, None, 4, 5, 6]], [[float("nan")] * 6], 7, {"counts": [24]},
        {"size": [4, 6], "counts": [25]}, {"size": [4, 6], "counts": [-1, 25]}, {"size": [0, 6], "counts": []},
        {"size": [4, 6], "counts": "~"}, {"size": [4, 6], "counts": "Q"}, {"size": [10**9, 10**9], "counts": [1]},
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_says_why(segmentation: Any) -> None:
    with pytest.raises(ValueError, match=r"polygon|run lengths|segmentation"):
        shape_of(segmentation, Path("a.json"), 0, SIZE)


def test_the_text_of_a_shape_depends_on_its_content() -> None:
    first, second = (shape_of([[2, 1, 5, 1, 5, y]], Path("a.json"), 0, SIZE) for y in (3, 4))
    assert repr(first) != repr(second)
    assert len(repr(first)) < 150

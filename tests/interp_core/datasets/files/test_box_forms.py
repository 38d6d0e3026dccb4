"""Boxes however they are written."""

from __future__ import annotations

import math
from typing import Any

import pytest

from interp_core.datasets.files.box_forms import are_shares, choose_form, find_columns, parse_boxes, to_corners


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("x0", "y0", "x1", "y1"), (1, 2, 4, 6)),
        (("x1", "y1", "x2", "y2"), (1, 2, 4, 6)),
        (("XMin", "YMin", "XMax", "YMax"), (1, 2, 4, 6)),
        (("left", "top", "right", "bottom"), (1, 2, 4, 6)),
        (("bbox_x", "bbox_y", "bbox_w", "bbox_h"), (1, 2, 3, 4)),
        (("x", "y", "width", "height"), (1, 2, 3, 4)),
        (("left", "top", "width", "height"), (1, 2, 3, 4)),
        (("x_center", "y_center", "width", "height"), (2.5, 4, 3, 4)),
        (("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2"), (1, 2, 4, 6)),
    ],
)
def test_names_tell_the_form(names: tuple[str, ...], values: tuple[float, ...]) -> None:
    columns = find_columns(["file", "width", "height", *names])
    assert columns is not None
    form, order = columns
    assert order == names
    assert to_corners(values, form) == (1, 2, 4, 6)


def test_sizes_of_images_are_no_boxes() -> None:
    assert find_columns(["file", "width", "height", "x"]) is None


@pytest.mark.parametrize(
    "value",
    [
        [1, 2, 3, 4], "[1, 2, 3, 4]", "1 2 3 4", "1;2;3;4", "(1.0, 2.0, 3.0, 4.0)", "array([1., 2., 3., 4.])",
        {"x": 1, "y": 2, "width": 3, "height": 4}, "{'x1': 1, 'y1': 2, 'x2': 4, 'y2': 6}", [[1, 2, 3, 4]],
        ["1", "2", "3", "4"],
    ],
)  # fmt: skip
def test_one_box(value: Any) -> None:
    assert parse_boxes(value) == [(1, 2, 4, 6)]


def test_several_boxes_and_none() -> None:
    assert parse_boxes("[[1, 2, 3, 4], [0, 0, 1, 1]]") == [(1, 2, 4, 6), (0, 0, 1, 1)]
    assert parse_boxes("1 2 4 6;0 0 1 1", "corners") == [(1, 2, 4, 6), (0, 0, 1, 1)]
    assert parse_boxes(None) == parse_boxes("") == parse_boxes([]) == parse_boxes("[]") == []


@pytest.mark.parametrize("value", ["no box", [1, 2, 3], [1, 2, None, 4], {"a": 1}, 7, "1 2 3", [[1, 2], [3, 4]]])
def test_what_is_no_box(value: Any) -> None:
    with pytest.raises(ValueError, match=r"box|numbers"):
        parse_boxes(value)


def test_shares_are_told_from_pixels() -> None:
    assert are_shares([(0.1, 0.2, 0.5, 0.9), (0, 0, 1, 1), (9, 9, 9, 9)])
    assert not are_shares([(1, 2, 8, 9), (0, 0, 1, 1)])
    assert not are_shares([(0.5, 2.5, 8, 9), (0.2, 0.2, 1, 1)])
    assert not are_shares([(math.nan,) * 4])


def test_corners_are_told_where_sizes_would_reach_beyond() -> None:
    assert choose_form([([(10, 10, 35, 35)], (40, 40))]) == "corners"
    assert choose_form([([(10, 10, 20, 20)], (40, 40))]) == "size"
    assert choose_form([([(0.5, 0.5, 0.9, 0.9)], None)]) == "corners"

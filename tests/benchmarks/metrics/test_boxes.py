from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.metrics import Batch
from benchmarks.metrics.boxes import MaxBoxAcc, box_around, cross_validate, intersection_over_union, largest_box


def box_case(n: int = 6, side: int = 32) -> Batch:
    """Build boxes as masks, and maps of the box with a faint frame around it."""
    rng = np.random.default_rng(0)
    masks, maps = np.zeros((2, n, 1, side, side))
    for mask, values in zip(masks, maps, strict=True):
        row, column = rng.integers(2, 12, 2)
        values[0, row - 2 : row + 14, column - 2 : column + 14] = 0.3
        mask[0, row : row + 12, column : column + 12] = values[0, row : row + 12, column : column + 12] = 1
    images = np.zeros((n, 3, side, side), np.float32)
    return Batch(None, images, np.zeros(n, np.int64), maps.astype(np.float32), masks.astype(bool))


class TestBoxes:
    def test_a_box_by_hand(self) -> None:
        mask = np.zeros((8, 8), bool)
        mask[2:5, 3], mask[4, 3:7] = True, True
        assert box_around(mask) == (2, 3, 5, 7)

    def test_the_largest_component_counts(self) -> None:
        values = np.zeros((8, 8))
        values[0, 0], values[4:6, 4:7], values[7, 0:2] = 9, 5, 5
        assert largest_box(values, 0.5) == (4, 4, 6, 7)
        assert largest_box(values, 0.9) == (0, 0, 1, 1)

    def test_overlap(self) -> None:
        assert intersection_over_union((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
        assert intersection_over_union((0, 0, 2, 2), (2, 2, 3, 3)) == 0
        assert intersection_over_union((0, 0, 2, 2), (0, 0, 2, 2)) == 1

    def test_each_half_takes_the_threshold_of_the_other(self) -> None:
        # Rows 0 and 2 are best at the first threshold, 1 and 3 at the second: each gets the other's.
        hits = np.array([[1.0, 0.0], [0.2, 0.9], [1.0, 0.0], [0.2, 0.9]])
        assert cross_validate(hits).tolist() == [0, 0.2, 0, 0.2]
        assert cross_validate(hits[:1]).tolist() == [1]
        assert np.isnan(cross_validate(np.full((2, 2), np.nan))).all()

    def test_a_map_with_the_right_box_at_some_threshold_is_right(self) -> None:
        case = box_case()
        assert np.array_equal(MaxBoxAcc()(case)["max_box_acc"], np.ones(6))
        assert (MaxBoxAcc()(replace(case, maps=-case.maps))["max_box_acc"] < 0.5).all()

    def test_images_without_a_mask_have_no_score(self) -> None:
        case = box_case()
        assert case.masks is not None
        case.masks[2] = False
        assert np.isnan(MaxBoxAcc()(case)["max_box_acc"]).tolist() == [False, False, True, False, False, False]

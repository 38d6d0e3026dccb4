"""The gallery shows images of as many classes as it can."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.run.gallery import classes_in_turn


@pytest.mark.parametrize(
    ("targets", "count", "numbers"),
    [
        ([0, 0, 0, 1, 0, 2], 3, [0, 3, 5]),
        ([0, 0, 0, 1, 0, 2], 4, [0, 1, 3, 5]),
        ([2, 1, 0], 2, [0, 1]),
        ([1, 1], 6, [0, 1]),
    ],
)
def test_each_class_has_its_turn(targets: list[int], count: int, numbers: list[int]) -> None:
    assert classes_in_turn(np.array(targets), count) == numbers

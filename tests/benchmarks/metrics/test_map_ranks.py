from __future__ import annotations

import numpy as np

from benchmarks.metrics.base import break_ties
from benchmarks.metrics.map_ranks import positive_part, ranks, remove_jitter, subtract_minimum


def test_ranks_by_hand() -> None:
    maps = np.array([[[[3.0, -1.0], [0.0, 9.0]]]])
    assert ranks(maps).ravel().tolist() == [3, 1, 2, 4]
    assert ranks(-maps).ravel().tolist() == [2, 4, 3, 1]


def test_jitter_is_taken_out_of_zeros_and_signs_are_kept() -> None:
    maps = np.zeros((1, 1, 8, 8), np.float32)
    maps[..., 0, 0], maps[..., 1, 1] = 4, -2
    ready = break_ties(maps, seed=0)
    assert np.count_nonzero(remove_jitter(ready)) == 2
    assert np.count_nonzero(positive_part(ready)) == 1
    assert subtract_minimum(ready).min() == 0

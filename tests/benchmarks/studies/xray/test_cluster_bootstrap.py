"""Intervals are those of persons."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.studies.xray.cluster_bootstrap import (
    draw_weights,
    effective_persons,
    mean_interval,
    wins,
    wins_interval,
)


class TestPersonsDrawnTogether:
    def test_images_of_a_person_are_drawn_alike(self) -> None:
        counts = draw_weights(np.array([0, 1, 0, 2]), 50)
        assert (counts[:, 0] == counts[:, 2]).all()
        assert (counts[:, [0, 1, 3]].sum(1) == 3).all()

    def test_effective_persons(self) -> None:
        assert effective_persons(np.array([0, 0, 0, 1])) == pytest.approx(16 / 10)
        assert effective_persons(np.arange(5)) == 5

    def test_interval_is_wider_where_images_of_a_person_are_alike(self) -> None:
        values = np.repeat(np.random.default_rng(0).random(10), 6)
        low, high = mean_interval(values, np.arange(60))
        wide_low, wide_high = mean_interval(values, np.repeat(np.arange(10), 6))
        assert wide_low < low < values.mean() < high < wide_high

    def test_wins_are_the_auroc(self) -> None:
        rng = np.random.default_rng(1)
        targets, scores = np.arange(40) % 2, rng.integers(0, 6, 40).astype(float)
        table = wins(scores, targets)
        assert table.shape == (20, 20)
        assert table.mean() == pytest.approx(roc_auc_score(targets, scores))
        low, high = wins_interval(table, targets, np.arange(40))
        assert low < table.mean() < high

    def test_a_perfect_order_has_no_interval(self) -> None:
        targets = np.array([0, 0, 1, 1])
        assert wins_interval(wins(targets * 1.0, targets), targets, np.arange(4)) == (1.0, 1.0)

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.workers import run_once, tabulate_workers


def test_gains_are_medians_over_rounds() -> None:
    table = tabulate_workers([{1: 10.0, 2: 5.0}, {1: 12.0, 2: 8.0}, {1: 9.0, 2: 5.0}])
    assert table["workers"].tolist() == [1, 2]
    assert table["seconds"].tolist() == [10, 5]
    assert table["gain"].tolist() == pytest.approx([1, 1.8])


@pytest.mark.slow
def test_one_run(tmp_path: Path) -> None:
    assert run_once(3, 400, 0, tmp_path, "dataset.train=40", "recipe.epochs=1") > 0

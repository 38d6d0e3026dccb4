from __future__ import annotations

import pytest
from helpers.scores import UP, long_table, rows_of

from benchmarks.statistics import (
    Resampling,
    by_size,
    size_bins,
)


def test_bins_are_thirds() -> None:
    areas = {f"i{i}": 0.01 * (i + 1) for i in range(9)}
    bins = size_bins(areas)
    assert [bins[f"i{i}"] for i in range(9)] == ["small"] * 3 + ["medium"] * 3 + ["large"] * 3
    assert size_bins({"a": 0.2, "b": 0.2}) == {}
    assert "e" not in size_bins({**areas, "e": 0.0})


def test_means_by_size_are_those_of_the_images_in_it() -> None:
    scores = long_table(rows_of("x", range(9)) + rows_of("x", range(9), "down"))
    areas = {f"i{i}": 0.01 * (i + 1) for i in range(9)} | {"not scored": 0.9}
    table = by_size(scores, [UP], areas, resampling=Resampling(resamples=50))
    assert table["mean"].tolist() == [1, 4, 7]
    assert table["n"].tolist() == [3, 3, 3]
    assert table["least"].tolist() == pytest.approx([0.01, 0.04, 0.07])
    assert table["most"].tolist() == pytest.approx([0.03, 0.06, 0.09])
    assert set(table["metric"]) == {"up"}
    assert by_size(scores, [UP], {}).empty

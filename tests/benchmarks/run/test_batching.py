from __future__ import annotations

import pytest
import torch

from benchmarks.run.batching import AdaptiveBatches


def spans(batches: AdaptiveBatches, count: int, fits: int = 1000) -> list[tuple[int, int]]:
    """Return start and stop of the batches that fit."""

    def call(batch: slice) -> tuple[int, int]:
        if batch.stop - batch.start > fits:
            raise torch.OutOfMemoryError("full")
        return batch.start, batch.stop

    return batches.run(call, count)


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [("auto", 5, [(0, 5)]), (2, 5, [(0, 2), (2, 4), (4, 5)]), (9, 5, [(0, 5)]), (1, 2, [(0, 1), (1, 2)])],
)
def test_batches_cover_everything_once(size: int, count: int, expected: list[tuple[int, int]]) -> None:
    assert spans(AdaptiveBatches(size), count) == expected  # type: ignore[arg-type]


def test_what_does_not_fit_is_halved_and_remembered() -> None:
    batches = AdaptiveBatches("auto")
    assert spans(batches, 16, fits=5) == [(0, 4), (4, 8), (8, 12), (12, 16)]
    assert batches.max_size == 4
    assert spans(batches, 6) == [(0, 4), (4, 6)]


def test_a_fixed_size_or_a_single_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        spans(AdaptiveBatches(4), 8, fits=2)
    with pytest.raises(torch.OutOfMemoryError):
        spans(AdaptiveBatches("auto"), 8, fits=0)


def test_other_errors_are_not_held_back() -> None:
    def call(batch: slice) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        AdaptiveBatches("auto").run(call, 3)

"""Images are divided by group, with every class in proportion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp_core.datasets import Record
from interp_core.datasets.files.splits import SplitRecord, complete_splits, divide


def record(number: int, target: int, group: str = "") -> Record:
    return Record(f"i{number}", Path(f"{number}.png"), (target,), group=group)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(0, 5), st.booleans())
def test_every_image_is_in_one_split_and_classes_are_in_proportion(
    targets: list[int], seed: int, grouped: bool
) -> None:
    records = [record(i, target, f"g{target}{i // 3}" if grouped else "") for i, target in enumerate(targets)]
    parts = divide(records, {"train": 0.7, "val": 0.1, "test": 0.2}, seed)
    assert sorted(r.id for part in parts.values() for r in part) == sorted(r.id for r in records)
    groups = [{r.group for r in part if r.group} for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    if not grouped:
        for target in range(4):
            got = [sum(r.targets == (target,) for r in parts[split]) for split in ("train", "val", "test")]
            np.testing.assert_allclose(got, np.array([0.7, 0.1, 0.2]) * targets.count(target), atol=2)
    shuffled = divide(records[::-1], {"train": 0.7, "val": 0.1, "test": 0.2}, seed)
    assert {s: {r.id for r in p} for s, p in parts.items()} == {s: {r.id for r in p} for s, p in shuffled.items()}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"train": 100, "val": 10, "test": 20}, (100, 10, 20)),
        ({"train": 100, "test": 20}, (90, 10, 20)),
        ({"train": 100, "val": 10}, (90, 10, 10)),
        ({"val": 10}, (0, 0, 10)),
        ({"train": 100}, (70, 10, 20)),
        ({None: 100}, (70, 10, 20)),
        ({"train": 100, "val": 10, "test": 20, None: 10}, (107, 11, 22)),
    ],
)
def test_splits_that_are_not_told_are_made(own: dict[str | None, int], expected: tuple[int, ...]) -> None:
    counted = iter(range(1000))
    labelled = [
        SplitRecord(record(next(counted), 0), split)  # type: ignore[arg-type]
        for split, count in own.items()
        for _ in range(count)
    ]
    assert tuple(len(part) for part in complete_splits(labelled, 0).values()) == expected

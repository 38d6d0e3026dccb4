"""Samples of records keep groups whole and classes in proportion."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from interp_core.datasets import Record
from interp_core.datasets.files.sampling import progress_in_class, rank_in_class, sample_records, sort_key


@st.composite
def populations(draw: st.DrawFn) -> list[Record]:
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=30))
    targets = draw(st.lists(st.integers(0, 3), min_size=len(sizes), max_size=len(sizes)))
    return [
        Record(f"{g}-{i}", Path("a"), (target,), group=f"g{g}")
        for g, (size, target) in enumerate(zip(sizes, targets, strict=True))
        for i in range(size)
    ]


@given(populations(), st.integers(1, 40), st.integers(0, 3))
def test_samples_keep_groups_whole_whatever_the_listing(records: list[Record], most: int, seed: int) -> None:
    sampled = sample_records(records, most, seed)
    assert len(sampled) <= most
    assert sampled == sample_records(records[::-1], most, seed)
    group_sizes = Counter(record.group for record in records)
    assert all(count == group_sizes[group] for group, count in Counter(record.group for record in sampled).items())
    if most >= len(records):
        assert len(sampled) == len(records)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=80), st.integers(4, 40))
def test_samples_have_the_classes_in_proportion(targets: list[int], most: int) -> None:
    records = [Record(str(i), Path("a"), (target,)) for i, target in enumerate(targets)]
    sampled = Counter(record.targets[0] for record in sample_records(records, most, 0))
    share = min(1.0, most / len(records))
    assert sum(sampled.values()) == min(most, len(records))
    assert all(abs(sampled[target] - share * count) <= 1.5 for target, count in Counter(targets).items())


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_ranks_count_the_earlier_items_of_a_class(classes: list[int]) -> None:
    expected = [classes[:i].count(label) for i, label in enumerate(classes)]
    np.testing.assert_array_equal(rank_in_class(np.array(classes)), expected)
    shares = [(rank + 0.5) / classes.count(label) for rank, label in zip(expected, classes, strict=True)]
    np.testing.assert_array_equal(progress_in_class(np.array(classes)), shares)


def test_keys_depend_on_name_and_seed_only() -> None:
    assert sort_key("a", 1) == sort_key("a", 1) == bytes.fromhex("6edb8b1efc16843d")
    assert len({sort_key(name, seed) for name in ("a", "b") for seed in (0, 1, -1)}) == 6

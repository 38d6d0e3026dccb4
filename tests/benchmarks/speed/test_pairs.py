"""Ratios of pairs: how both sides are timed and what their rows say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.speed_rows import LAP_ROW, case

from benchmarks.speed.pairs import PairTimer, TimedWork, paired_ratios, pairs_within, quartiles, summarise
from benchmarks.speed.table import FIELDS


class TestRatios:
    def test_each_pair_gives_one_ratio(self) -> None:
        assert paired_ratios([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]) == [2.0, 1.0, 0.5]

    @pytest.mark.parametrize(
        ("reference", "measured"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 1.0]), ([1.0, 2.0], [1.0])]
    )
    def test_what_is_no_pair_is_refused(self, reference: list[float], measured: list[float]) -> None:
        with pytest.raises(ValueError, match=r"positive|zip"):
            paired_ratios(reference, measured)

    def test_quartiles_are_numpys(self) -> None:
        values = np.random.default_rng(0).random(17).tolist()
        assert quartiles(values) == tuple(np.percentile(values, [25, 50, 75]))
        assert quartiles([3.0]) == (3.0, 3.0, 3.0)

    def test_load_that_slows_both_sides_of_a_pair_changes_nothing(self) -> None:
        load = np.random.default_rng(0).uniform(1, 10, 21)
        row = summarise(case(), (0.5 * load).tolist(), (0.6 * load).tolist())
        assert (row.q1, row.ratio, row.q3) == pytest.approx((1.2, 1.2, 1.2))

    def test_a_row_keeps_its_case(self) -> None:
        assert (LAP_ROW.net, LAP_ROW.what, LAP_ROW.asked, LAP_ROW.pairs) == ("small", "forward", 1.05, 3)
        assert (LAP_ROW.ratio, LAP_ROW.reference_seconds) == pytest.approx((1.04, 2.0))
        assert (LAP_ROW.q1, LAP_ROW.q3) == pytest.approx((1.03, 1.12))


class TestTimedWork:
    def test_times_only_its_work(self) -> None:
        ticks = iter([0.0, 3.0, 10.0, 14.0])
        order: list[str] = []
        reference = TimedWork(
            lambda: order.append("work"), prepare=lambda: order.append("prepare"), clock=lambda: next(ticks)
        )
        reference()
        reference()
        assert reference.seconds == [3.0, 4.0]
        assert order == ["prepare", "work"] * 2

    def test_takes_the_median_of_repeats(self) -> None:
        ticks = iter([0.0, 1.0, 0.0, 9.0, 0.0, 2.0])
        reference = TimedWork(lambda: None, repeats=3, clock=lambda: next(ticks))
        reference()
        assert reference.seconds == [2.0]


class FakeStats:
    def __init__(self, data: list[float]) -> None:
        self.stats = self
        self.data = data


class FakeBenchmark:
    """Stand-in for pytest-benchmark's fixture in which every round takes as many seconds as its number."""

    def __init__(self, disabled: bool = False) -> None:
        self.disabled, self.group = disabled, ""
        self.extra_info: dict[str, Any] = {}
        self.stats: FakeStats | None = None

    def pedantic(self, target: Any, setup: Any, rounds: int, warmup_rounds: int) -> None:
        for _ in range(1 if self.disabled else rounds + warmup_rounds):
            assert setup() is None
            target()
        if not self.disabled:
            self.stats = FakeStats([float(number) for number in range(1, rounds + 1)])


class TestPairTimer:
    def test_sides_take_turns_and_warm_up_is_dropped(self) -> None:
        order: list[str] = []
        benchmark = FakeBenchmark()
        compare = PairTimer(benchmark, "cpu", quick=False)
        compare(case(pairs=4), lambda: order.append("A"), lambda: order.append("B"), warm_up=2)
        assert order == ["A", "B"] * 6
        assert benchmark.group == "small, channels_last"
        seconds = benchmark.extra_info["reference_data"]
        assert len(seconds) == 4
        expected = np.median([number / second for number, second in zip(range(1, 5), seconds, strict=True)])
        assert benchmark.extra_info["ratio"] == pytest.approx(expected)
        assert set(FIELDS) < set(benchmark.extra_info)

    def test_quick_takes_few_pairs(self) -> None:
        benchmark = FakeBenchmark()
        PairTimer(benchmark, "cpu", quick=True)(case(pairs=25), lambda: None, lambda: None)
        assert benchmark.extra_info["pairs"] == 3

    def test_disabled_benchmarks_leave_nothing(self) -> None:
        benchmark = FakeBenchmark(disabled=True)
        PairTimer(benchmark, "cpu", quick=False)(case(), lambda: None, lambda: None)
        assert benchmark.extra_info == {}

    def test_waits_for_the_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[str] = []
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append(f"wait {device}"))
        compare = PairTimer(FakeBenchmark(), "cuda:0", quick=False)
        compare(case(pairs=1), lambda: order.append("A"), lambda: order.append("B"), warm_up=0)
        assert order == ["A", "wait cuda:0", "B", "wait cuda:0"]


class TestPairs:
    @pytest.mark.parametrize(("pair", "pairs"), [(1.0, 8), (0.001, 60), (100.0, 7), (0.5, 16)])
    def test_as_many_as_the_budget_allows(self, pair: float, pairs: int) -> None:
        assert pairs_within(8.0, pair, 7, 60) == pairs

    def test_a_pair_is_timed_after_one_that_does_not_count(self) -> None:
        order: list[str] = []
        seconds = PairTimer(None, "cpu", quick=False).pair_seconds(lambda: order.append("A"), lambda: order.append("B"))
        assert order == ["A", "B"] * 2
        assert seconds > 0

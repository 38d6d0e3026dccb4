"""Rows of the zoo: read from the suite's JSON, summarised over networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.zoo_rows import FACTS, memory_info, results, row, stored, timed_info

from benchmarks.speed.table import SpeedError
from benchmarks.speed.zoo_rows import read_zoo, summarise_zoo


class TestSummary:
    def test_head_has_median_and_worst(self) -> None:
        summary = summarise_zoo(
            results(
                row("a", "forward", 1.01),
                row("b", "forward", 1.09),
                row("c", "forward", 1.02),
                row("a", "explain", 1.02),
                row("b", "explain", 1.06),
                row("a", "forward", 1.5, "bfloat16"),
            )
        )
        assert [(line.variant, line.kind, line.nets) for line in summary] == [
            ("float32", "forward", 3),
            ("float32", "explain", 2),
            ("bfloat16", "forward", 1),
        ]
        assert [line.median for line in summary] == pytest.approx([1.02, 1.04, 1.5])
        assert [(line.worst, line.net) for line in summary[:2]] == [(1.09, "b"), (1.06, "b")]
        assert [line.is_within_limits for line in summary] == [
            False,
            True,
            False,
        ]  # a limit on the worst counts

    def test_limits_themselves_are_kept(self) -> None:
        rows = [row(net, "forward", ratio) for net, ratio in (("a", 1.03), ("b", 1.03), ("c", 1.08))]
        assert summarise_zoo(results(*rows))[0].is_within_limits


class TestRead:
    def test_reads_what_the_suite_leaves(self, tmp_path: Path) -> None:
        path = stored(tmp_path / "zoo.json", timed_info("a", "explain", 1.02), memory_info("a", "forward memory", 4, 5))
        zoo = read_zoo(path)
        assert zoo.facts == FACTS
        timed, memory = zoo.rows
        assert (timed.ratio, timed.plain, timed.unit, timed.pairs) == (1.02, 50.0, "ms", 9)
        assert (memory.ratio, memory.q1, memory.q3, memory.plain * 2**20, memory.unit) == (1.25, 1.25, 1.25, 4, "MiB")

    @pytest.mark.parametrize("content", ["{", "[]", '{"benchmarks": []}', '{"benchmarks": [{"extra_info": {}}]}'])
    def test_other_files_are_refused(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "zoo.json"
        path.write_text(content)
        with pytest.raises(SpeedError, match=r"cannot read|holds no ratios of the zoo"):
            read_zoo(path)

    def test_a_file_without_rows_or_of_the_other_suite_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SpeedError, match="holds no ratios"):
            read_zoo(stored(tmp_path / "zoo.json"))
        path = stored(tmp_path / "zoo.json", timed_info("a", "forward", 1.0))
        content = json.loads(path.read_text())
        del content["interp_bench"]["zoo"]
        path.write_text(json.dumps(content))
        with pytest.raises(SpeedError, match="holds no ratios"):
            read_zoo(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(SpeedError, match="cannot read"):
            read_zoo(tmp_path / "none.json")

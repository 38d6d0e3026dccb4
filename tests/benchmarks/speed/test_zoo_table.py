"""zoo.csv and zoo.md: the worst network first, and what the measurement depends on."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from helpers.zoo_rows import ZOO_FACTS, results, row

from benchmarks.speed.table import to_csv
from benchmarks.speed.zoo_rows import FIELDS
from benchmarks.speed.zoo_table import to_markdown


class TestTable:
    def test_csv_reads_back(self) -> None:
        first, second = csv.DictReader(
            io.StringIO(to_csv([row("a", "forward", 1.23456), row("a", "forward memory", 1)]))
        )
        assert tuple(first) == FIELDS
        assert (first["net"], float(first["ratio"]), first["unit"]) == ("a", 1.235, "ms")
        assert (second["kind"], second["unit"]) == ("forward memory", "MiB")

    def test_markdown_has_worst_first_and_says_what_it_rests_on(self) -> None:
        text = to_markdown(
            results(row("a", "forward", 1.01), row("b", "forward", 1.2), row("a", "forward memory", 1.0))
        )
        lines = text.splitlines()
        assert "| float32 | forward | 2 | 1.105 | <= 1.03 | 1.200 | <= 1.08 | b | missed |" in lines
        assert "| float32 | forward memory | 1 | 1.000 | <= 1.05 | 1.000 |  | a | kept |" in lines
        assert lines.index("| b | 224 | 1.200 | 1.200 to 1.200 | 50.0 | 9 |") + 1 == lines.index(
            "| a | 224 | 1.010 | 1.010 to 1.010 | 50.0 | 9 |"
        )
        assert "| a | 224 | 1.000 | 50.0 |" in lines
        assert "- command: `python -m benchmarks.speed --zoo`" in lines
        assert "as many pairs as 8 seconds allow, 7 at least" in text
        assert "## Explain" not in text

    @pytest.mark.parametrize("facts", [{"quick": True}, {"zoo": ZOO_FACTS | {"part": True}}])
    def test_no_verdict_from_a_part_or_a_quick_check(self, facts: dict[str, Any]) -> None:
        text = to_markdown(results(row("a", "forward", 1.01), **facts))
        assert "kept" not in text
        assert "quick check" in text or "part of the networks" in text

"""speed.csv and speed.md, from the JSON of the suite."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from helpers.speed_rows import DEAR, FACTS, FREE, LAP_ROW, MISSED, case, write_results

from benchmarks.speed.pairs import summarise
from benchmarks.speed.table import FIELDS, SpeedError, SpeedResults, read, to_csv, to_markdown, write


class TestTable:
    def test_csv_reads_back(self) -> None:
        first, second = list(csv.DictReader(io.StringIO(to_csv([LAP_ROW, DEAR]))))
        assert tuple(first) == FIELDS
        assert (first["net"], float(first["ratio"]), float(first["asked"])) == ("small", 1.04, 1.05)
        assert (second["what"], float(second["ratio"]), second["asked"]) == ("LIME", 1250.0, "")

    def test_markdown_says_kept_missed_and_what_it_rests_on(self) -> None:
        text = to_markdown(SpeedResults((LAP_ROW, MISSED, FREE, DEAR), FACTS))
        lines = text.splitlines()
        assert "1.040 | 1.030 to 1.120 | <= 1.05, kept | 2000.0" in text
        assert "1.200 | 1.200 to 1.200 | <= 1.10, missed | 10.0" in text
        assert [line for line in lines if "contiguous" in line and "2.000 to 2.000 |  | 1000.0" in line]
        assert "| LIME | 1,250 |  | 20.0 | 1 |" in text
        assert "- commit: abc123, with changes" in lines
        assert "- command: `python -m benchmarks.speed`" in lines
        assert "torch 2.9.0" in text
        widths = {line.count("|") for line in lines if line.startswith("|")}
        assert widths == {11, 9}

    def test_a_quick_check_gives_no_verdict(self) -> None:
        text = to_markdown(SpeedResults((LAP_ROW,), FACTS | {"quick": True}))
        assert "not figures to quote" in text
        assert "`python -m benchmarks.speed --quick`" in text
        assert "kept" not in text
        assert "External explainers against" not in text

    def test_outside_a_checkout(self) -> None:
        assert "- commit: not a checkout" in to_markdown(SpeedResults((LAP_ROW,), FACTS | {"git": None}))

    def test_rows_come_network_by_network(self, tmp_path: Path) -> None:
        big = summarise(case(net="big"), [1.0] * 3, [1.0] * 3)
        results = read(write_results(tmp_path / "speed.json", [LAP_ROW, big, FREE, MISSED]))
        assert results.rows == (LAP_ROW, MISSED, FREE, big)
        assert results.facts == FACTS

    def test_writes_both_files(self, tmp_path: Path) -> None:
        paths = write(SpeedResults((LAP_ROW,), FACTS), tmp_path / "deep")
        assert [path.name for path in paths] == ["speed.csv", "speed.md"]
        assert paths[0].read_text() == to_csv([LAP_ROW])

    @pytest.mark.parametrize("content", ["{", '{"benchmarks": []}', '{"benchmarks": [{"extra_info": {}}]}', "[]"])
    def test_other_files_are_refused(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "speed.json"
        path.write_text(content)
        with pytest.raises(SpeedError, match=r"cannot read|holds no speed ratios"):
            read(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(SpeedError, match="cannot read"):
            read(tmp_path / "none.json")

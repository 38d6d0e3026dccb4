"""`python -m benchmarks.speed`: what is measured, what is written, and errors in one line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.speed_rows import DEAR, LAP_ROW, write_results
from helpers.zoo_rows import stored, timed_info

from benchmarks.speed import __main__ as command
from benchmarks.speed import table, zoo_table
from benchmarks.speed.zoo import KINDS, MEMORY, QUICK_ZOO
from benchmarks.speed.zoo_rows import read_zoo
from interp_core.errors import StoreError

pytestmark = pytest.mark.slow


class TestCommand:
    def test_tables_from_an_earlier_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_results(tmp_path / "mine.json", [LAP_ROW, DEAR])
        assert command.main(["--json", str(path), "--output", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / "speed.md").read_text() == table.to_markdown(table.read(path))
        assert "speed.csv" in capsys.readouterr().out

    def test_measures_where_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        quick_flags: list[bool] = []

        def measure(path: Path, *, quick: bool, flags: Sequence[str]) -> None:
            quick_flags.append(quick)
            write_results(path, [LAP_ROW], quick=quick)

        monkeypatch.setattr(command, "measure", measure)
        assert command.main(["--quick", "--output", str(tmp_path)]) == 0
        assert quick_flags == [True]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.csv", "speed.json", "speed.md"]

    def test_errors_are_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--json", str(tmp_path / "none.json")]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_says_what_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command, "find_spec", lambda name: None)
        assert command.main(["--output", str(tmp_path)]) == 2
        assert "needs pytest-benchmark: pip install 'interp-bench[test]'" in capsys.readouterr().err

    def test_a_failed_suite_leaves_no_tables(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pytest, "main", lambda arguments: pytest.ExitCode.TESTS_FAILED)
        assert command.main(["--output", str(tmp_path / "out")]) == 2
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot write to"):
            command.measure(tmp_path / "file" / "out" / "speed.json", quick=True)


class TestZooCommand:
    def test_quick_run_from_end_to_end(self, tmp_path: Path) -> None:
        import subprocess
        import sys

        words = ["-m", "benchmarks.speed", "--zoo", "--quick", "--output", str(tmp_path)]
        # pytest-benchmark measures nothing where it believes itself in a worker of xdist.
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=alone)
        assert done.returncode == 0, done.stdout + done.stderr
        results = read_zoo(tmp_path / "zoo.json")
        assert [(r.net, r.kind) for r in results.rows] == [(net, kind) for net in QUICK_ZOO for kind in KINDS]
        assert all(r.ratio > 1 for r in results.rows if r.kind in MEMORY)
        assert all(r.image_size == 64 for r in results.rows)
        assert {path.name for path in tmp_path.iterdir()} == {"zoo.json", "zoo.csv", "zoo.md", "zoo.png"}

    def test_tables_from_an_earlier_run(self, tmp_path: Path) -> None:
        path = stored(tmp_path / "mine.json", timed_info("a", "forward", 1.02))
        assert command.main(["--zoo", "--json", str(path), "--output", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / "zoo.md").read_text() == zoo_table.to_markdown(read_zoo(path))
        assert [path.name for path in command.write_zoo(read_zoo(path), tmp_path)] == ["zoo.csv", "zoo.md", "zoo.png"]

    def test_choices_are_handed_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options: list[Any] = []

        def run(words: list[str]) -> int:
            options.extend(words)
            return int(pytest.ExitCode.TESTS_FAILED)

        monkeypatch.setattr(pytest, "main", run)
        assert command.main(["--zoo", "--nets", "dla34", "--variants", "bfloat16", "--output", str(tmp_path)]) == 2
        assert options[-3:] == ["--zoo", "--nets=dla34", "--variants=bfloat16"]

    @pytest.mark.parametrize("words", [["--nets", "resnet1"], ["--variants", "float23"]])
    def test_unknown_names_are_one_line(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--zoo", *words]) == 2
        error = capsys.readouterr().err
        assert "did you mean" in error
        assert error.count("\n") == 1

    def test_choices_need_the_zoo(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--nets", "resnet18"]) == 2
        assert "add --zoo" in capsys.readouterr().err

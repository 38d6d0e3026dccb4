"""What a command says without a terminal, and in a log file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import exit_code
from rich.console import Console

from benchmarks.cli.logs import configure_logging, move_to_front
from benchmarks.run.phase_progress import PhaseProgress, format_seconds
from interp_core.errors import StoreError


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    configure_logging(quiet=False, verbose=False, log_file=None, terminal=True)


def count_lines(capsys: pytest.CaptureFixture[str], **options: bool) -> int:
    """Return the number of lines that a phase of 1,000 steps leaves on standard error."""
    settings = {"quiet": False, "verbose": False, "terminal": False} | options
    configure_logging(log_file=None, **settings)
    with PhaseProgress(Console(file=Path("/dev/null").open("w"), force_terminal=False)) as progress:
        progress.begin("Counting", 1000)
        for _ in range(1000):
            progress.step("Counting")
    return len(capsys.readouterr().err.splitlines())


def test_a_phase_is_a_line_and_one_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    assert count_lines(capsys) == 1 + 10
    assert count_lines(capsys, quiet=True) == 0
    assert count_lines(capsys, terminal=True) == 0
    assert count_lines(capsys, verbose=True) == 1 + 1000


def test_short_phases_are_told_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(quiet=False, verbose=False, log_file=None, terminal=False)
    with PhaseProgress(Console(file=Path("/dev/null").open("w"))) as progress:
        progress.begin("Training", 3)
        for accuracy in (0.1, 0.2, 0.3):
            progress.step(f"Training: accuracy {accuracy}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "3 of 3" in lines[-1]
    assert "0:00 left" in lines[-1]


def test_log_files_take_progress_and_errors_in_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.log"
    assert exit_code("report", "nowhere-ä", "--log-file", str(path)) == 2
    text = path.read_text(encoding="utf-8")
    assert "ERROR" in text
    assert "nowhere-ä" in text


def test_a_log_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        configure_logging(quiet=False, verbose=False, log_file=tmp_path / "file" / "run.log", terminal=False)


def test_handlers_of_an_earlier_command_are_closed(tmp_path: Path) -> None:
    for name in ("a.log", "b.log"):
        configure_logging(quiet=False, verbose=False, log_file=tmp_path / name, terminal=False)
    logging.getLogger("interp_bench").warning("only in b")
    assert (tmp_path / "a.log").read_text() == ""
    assert "only in b" in (tmp_path / "b.log").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--quiet", "--seed", "1"], ["--quiet", "run", "--seed", "1"]),
        (["run", "--log-file", "a b", "x"], ["--log-file", "a b", "run", "x"]),
        (["run", "--log-file=a", "--verbose"], ["--log-file=a", "--verbose", "run"]),
        (["run", "--log-file"], ["--log-file", "run"]),
        ([], []),
    ],
)
def test_options_may_stand_anywhere(words: list[str], expected: list[str]) -> None:
    assert move_to_front(words) == expected


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (187, "3:07"), (3787, "1:03:07")])
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text

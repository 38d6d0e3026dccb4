"""Run the command `interp-bench` in this process."""

from __future__ import annotations

from benchmarks import cli


def exit_code(*words: str) -> int:
    """Run the command and return its exit code."""
    try:
        cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0

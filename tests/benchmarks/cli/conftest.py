"""Fixtures for tests of the command."""

from __future__ import annotations

import pytest

from benchmarks import cli
from benchmarks.cli import run


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not write the page of a run, which takes longer than the run."""
    monkeypatch.setattr(run, "write_page", lambda folder: None)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the terminal so wide that no line of a table is cut."""
    monkeypatch.setattr(cli.console, "width", 400)

"""docs/own_network.md names options and functions that exist."""

from __future__ import annotations

import re

import pytest
import typer.main
from helpers.pages import code_block, wide_lines
from helpers.shared import ROOT

import benchmarks.explaining
from benchmarks.cli import app


def test_every_option_on_the_page_exists() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {
        option for name in ("fit", "explain") for parameter in commands[name].params for option in parameter.opts
    }
    page = (ROOT / "docs" / "own_network.md").read_text()
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= options
    assert [line for line in wide_lines("own_network.md") if not line.startswith("|")] == []


@pytest.mark.slow
def test_the_functions_on_the_page_exist() -> None:
    code = code_block("own_network.md", "fit_backbone")
    for name in re.findall(r"^(\w+)\(", code, re.MULTILINE):
        assert callable(getattr(benchmarks.explaining, name))

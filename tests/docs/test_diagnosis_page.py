"""The examples of docs/diagnosis.md run as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from helpers.command import exit_code
from helpers.layouts import class_folders
from helpers.pages import code_block, wide_lines
from helpers.shared import ROOT
from torch import nn

import benchmarks.diagnosis.checks  # noqa: F401 - registers the checks
from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.intervention import MINIMUM_EFFECT, Action
from benchmarks.diagnosis.output.findings_file import read_findings
from interp_core.datasets import ImageSet

NAME = "overconfidence"
NETWORK = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 4, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 2),
    )
"""


def page() -> str:
    return (ROOT / "docs" / "diagnosis.md").read_text()


def test_lines_outside_tables_are_no_longer_than_those_of_the_code() -> None:
    assert [line for line in wide_lines("diagnosis.md") if not line.startswith("|")] == []


def test_the_page_has_every_check_and_intervention() -> None:
    own = {name for name, cls in checks.items() if cls.__module__.startswith("benchmarks.")}
    assert {name for name in own if not re.search(rf"^\| `{name}` \|", page(), re.MULTILINE)} == set()
    assert {name for name in get_args(Action) if not re.search(rf"^\| {name} \|", page(), re.MULTILINE)} == set()
    assert f"at least {MINIMUM_EFFECT} more" in page()


@pytest.mark.slow
def test_the_page_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("diagnose", "--help") == 0
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert {option for option in options if option not in page()} == set()


@pytest.mark.slow
def test_the_python_code_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 3, 64, 64), dtype=np.uint8)
    images = ImageSet(pixels, np.arange(24) % 2, np.zeros((24, 1, 64, 64), bool), [f"image {i}" for i in range(24)])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    names: dict[str, Any] = {"network": network, "classes": ["a", "b"], "images": images}
    names |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    exec(code_block("diagnosis.md", "write_page"), names)
    assert isinstance(names["causes"], list)
    assert names["page"].is_file()


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The check of the page, as a plugin."""
    path = tmp_path / "my_check.py"
    path.write_text(code_block("diagnosis.md", NAME))
    yield path
    checks._entries.pop(NAME, None)


@pytest.mark.slow
def test_the_check_joins_a_diagnosis(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "data", count=6)
    (tmp_path / "my_net.py").write_text(NETWORK)
    words = [
        "diagnose", "my_net.py:build", "--plugin", "my_net.py", "--plugin", str(plugin), "--checks", NAME, "--data",
        "data", "--split", "all", "--set", "image_size=64", "--set", "workers=0", "--mean", "0.5", "--std", "0.5",
        "--device", "cpu", "--output", "out",
    ]  # fmt: skip
    assert exit_code(*words) == 0
    (report,) = read_findings(tmp_path / "out").checks
    assert (report.name, report.title) == (NAME, "Wrong answers with high probability")
    assert report.status.value in ("PASS", "FAIL")
    assert report.value is not None

"""The examples of docs/rivals.md run as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from helpers.pages import code_block, wide_lines
from helpers.rival_nets import backbone, toy_batch
from helpers.shared import ROOT

from benchmarks.config.plugins import load_plugin
from benchmarks.rivals import build, rivals

NAME = "small_logits"


def test_lines_are_no_longer_than_those_of_the_code() -> None:
    assert wide_lines("rivals.md") == []


def test_the_page_has_every_rival() -> None:
    page = (ROOT / "docs" / "rivals.md").read_text()
    assert {name for name in rivals if not re.search(rf"^\| `{name}` \|", page, re.MULTILINE)} == set()


@pytest.mark.slow
def test_the_first_code_runs_as_it_stands() -> None:
    images, masks = torch.randn(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    names = {"timm": timm, "images": images, "targets": torch.tensor([1, 2]), "masks": masks}
    exec(code_block("rivals.md", "cam_energy"), names)
    assert names["maps"].shape == (2, 1, 64, 64)
    assert set(names["losses"]) == {"cross_entropy", "energy"}


@pytest.fixture
def module(tmp_path: Path) -> Iterator[object]:
    """The rival of the page, as a plugin."""
    path = tmp_path / "my_rival.py"
    path.write_text(code_block("rivals.md", NAME))
    yield load_plugin(str(path))
    rivals._entries.pop(NAME)


@pytest.mark.usefixtures("module")
def test_your_own_rival_adds_its_loss_by_its_options() -> None:
    images, targets, _ = toy_batch()
    rival = build(NAME, backbone(), {"weight": 2.0}).eval()
    losses = rival.losses(images, targets, {})
    torch.testing.assert_close(losses["penalty"], 2 * rival(images).square().mean())
    assert set(losses) == {"cross_entropy", "penalty"}
    assert (rivals[NAME].title, rivals[NAME].Options.__name__) == ("Small logits", "SmallLogitsOptions")

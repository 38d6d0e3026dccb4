"""The page on knowledge terms: its table and its example."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from helpers.shared import ROOT

import interp_core
from interp_core.knowledge import observe, terms, view_of

PAGE = (ROOT / "docs" / "knowledge.md").read_text()


def test_the_table_has_every_term_with_its_weight() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert {row[0].strip(" `"): float(row[2]) for row in rows} == {name: terms[name]().weight for name in terms}


def test_every_term_has_a_formula() -> None:
    assert re.findall(r"^\* \*\*(\w+)\*\*: ", PAGE, re.MULTILINE) == [
        line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")
    ]


def test_the_term_on_the_page_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "_entries", dict(terms._entries))
    section = PAGE.split("\n## Your own term\n")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(code, {"__name__": "page"})
    maps = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]], [[9.0, 0.0], [0.0, 9.0]]]])
    view = view_of(maps, torch.tensor([[1.0, 0.0]]))
    assert terms["smooth"]().loss(view).item() == pytest.approx(0.5)
    assert terms["smooth"](of=1).loss(view).item() == 0
    lap = interp_core.attach(timm.create_model("test_resnet", num_classes=4), image_size=64)
    view = observe(lap, torch.randn(2, 3, 64, 64), torch.tensor([2, 0]))
    assert terms["smooth"]().loss(view).item() > 0

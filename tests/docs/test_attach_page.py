from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from helpers.shared import ROOT

pytestmark = pytest.mark.slow


def test_the_code_for_other_tools_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "attach.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "lap_mobilenetv2" in block]
    real: Callable[..., torch.nn.Module] = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **kwargs: real(name, pretrained=False, **kwargs))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {
        "timm": timm,
        "images": torch.randn(2, 3, 64, 64),
        "targets": torch.tensor([3, 4]),
    }
    exec(compile(ast.parse(code), "attach.md", "exec"), names)
    logits, maps = names["logits"], names["maps"]
    assert isinstance(logits, torch.Tensor)
    assert isinstance(maps, torch.Tensor)
    assert (logits.shape, maps.shape) == ((2, 10), (2, 1, 64, 64))
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 2
    assert (tmp_path / "my_network" / "model.safetensors").exists()

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.command import exit_code

from baselines import explainers
from benchmarks.metrics import metrics
from interp_core.datasets import datasets

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("things", "names"),
    [
        ("explainers", list(explainers)),
        ("metrics", [score.name for metric in metrics.values() for score in metric.scores]),
        ("datasets", list(datasets)),
        ("presets", ["digits", "paper", "quick", "smoke"]),
    ],
)
def test_list_names_everything(wide: None, things: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("list", things) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names)


def test_list_models_can_be_narrowed(wide: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("list", "models", "--filter", "resnet18*") == 0
    out = capsys.readouterr().out
    assert "resnet18d" in out
    assert "vit" not in out


def test_validate_tells_everything_and_exits_with_2(
    tiny_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("validate", str(tiny_file())) == 0
    assert "can be run" in capsys.readouterr().out
    assert exit_code("validate", str(tiny_file(explainers=["gradcam"], shard=0))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["explainers.0", "shard"]
    assert "2 errors" in lines[2]
    assert exit_code("validate", str(tiny_file()), "--set", "images=0") == 2


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "RunConfig"


@pytest.mark.parametrize("ok", [True, False])
def test_check_tells_what_holds(
    wide: None, ok: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = pytest.importorskip("benchmarks.checks.explainer")
    found = SimpleNamespace(
        ok=ok, lines=lambda: [("shape", True, "(N, 1, H, W)"), ("speed", ok, "3 [images] a second")]
    )
    monkeypatch.setattr(check, "check_plugin", lambda path: found)
    assert exit_code("check", "mine.py") == int(not ok)
    out = capsys.readouterr().out
    assert "3 [images] a second" in out
    assert ("failed" in out) is not ok

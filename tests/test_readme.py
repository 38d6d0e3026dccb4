"""The README is a promise: its commands, code and pictures are what the project has."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from helpers.shared import ROOT

import interp_core
from benchmarks.cli import app
from benchmarks.config.load import load_config
from benchmarks.plan.components import RunComponents
from benchmarks.studies.results_page import outdated

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def explainer_code() -> str:
    (code,) = [block for block in blocks("python") if "explainers.register" in block]
    return code


def test_ci_calls_the_test_command() -> None:
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if line.endswith("/tox")]
    assert command in CI.splitlines()


def test_the_explainer_is_ten_lines_or_less_and_joins_a_run(tmp_path: Path) -> None:
    code = explainer_code()
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 10
    path = tmp_path / "my_explainer.py"
    path.write_text(code)
    config = load_config(ROOT / "benchmarks" / "config" / "presets" / "smoke.yaml", {"plugins": [str(path)]})
    explainer = RunComponents(config).explainers["squared_gradient"]
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    maps = explainer(model, torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
    assert maps.shape == (2, 1, 16, 16)
    assert maps.min() >= 0
    assert maps.max() > 0


def test_the_first_code_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [block for block in blocks("python") if "attach" in block]
    import timm

    real: Callable[..., torch.nn.Module] = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: real("test_resnet", num_classes=2))
    monkeypatch.chdir(tmp_path)
    images, targets = torch.randn(64, 3, 32, 32), torch.arange(64) % 2
    names: dict[str, object] = {"images": images, "targets": targets}
    exec(compile(ast.parse(code), "README", "exec"), names)
    explanation = names["explanation"]
    assert isinstance(explanation, interp_core.Explanation)
    assert explanation.map.shape == (64, 1, 32, 32)
    assert (tmp_path / "my_network.safetensors").exists()


def _commands(group: Any, prefix: str = "") -> dict[str, Any]:
    """Return commands by name, those of groups after the group's name."""
    commands = {}
    for name, command in group.commands.items():
        is_group = hasattr(command, "commands")
        commands |= _commands(command, f"{prefix}{name} ") if is_group else {f"{prefix}{name}": command}
    return commands


def test_the_command_has_every_option_that_is_named() -> None:
    commands = _commands(typer.main.get_command(app))
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines() if "interp-bench" in line]
    for line in lines:
        words = shlex.split(line)
        rest = words[next(i for i, word in enumerate(words) if word.endswith("interp-bench")) + 1 :]
        verb = next(name for name in (" ".join(rest[:2]), rest[0]) if name in commands)
        options = {option for parameter in commands[verb].params for option in parameter.opts}
        assert options.issuperset(word for word in rest if word.startswith("--")), line


def test_generated_tables_are_what_the_stored_results_say() -> None:
    assert outdated(ROOT) == []


def prose() -> str:
    """The README without code and tables."""
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))


def test_it_is_read_in_three_minutes() -> None:
    assert len(prose().split()) <= 900
    assert len(re.findall(r"\b\d[\d.,]*\b", re.sub(r"\]\([^)]*\)", "]", prose()))) <= 25


def test_everything_linked_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []

"""Networks are built from what a user types; code runs only where it is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks.config.errors import ConfigError
from benchmarks.diagnosis.opening.network import (
    NetworkOptions,
    describe_network,
    network_options,
    open_network,
    open_subject,
    statistics_of,
    weights_digest,
)
from benchmarks.diagnosis.subject import Subject
from interp_core import create, save
from interp_core.errors import ContractError, InterpError

pytestmark = pytest.mark.slow
NAME = "test_resnet"
CODE = """
import torch

def build(classes=2, broken=False):
    if broken:
        raise RuntimeError("no weights here")
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 4, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, classes),
    )

nothing = 3
def number(): return 3
"""


def subject(model: str, count: int = 2, **options: Any) -> Subject:
    fields = {"device": "cpu", **options}
    return open_subject(NetworkOptions(model, **fields), [f"class {i}" for i in range(count)], image_size=32)


def weights_file(folder: Path, count: int = 2, *, half: bool = False) -> Path:
    torch.manual_seed(0)
    state = timm.create_model(NAME, num_classes=count).state_dict()
    path = folder / "weights.safetensors"
    save_file(
        {name: value.half() if half and value.is_floating_point() else value for name, value in state.items()}, path
    )
    return path


def logits(subject: Subject) -> torch.Tensor:
    torch.manual_seed(1)
    return subject.predict(torch.rand(2, 3, 32, 32))


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "my_net.py"
    path.write_text(CODE)
    return str(path)


@pytest.mark.parametrize("form", ["path", "path.safetensors", "path.json", "folder", "folder/model.safetensors"])
def test_a_lap_model_is_loaded_from_its_files(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    lap = create(NAME, num_classes=2).eval()
    save(lap, tmp_path / "path")
    lap.save_pretrained(tmp_path / "folder")
    read = open_network(NetworkOptions(str(tmp_path / form)), 2)
    assert weights_digest(read) == weights_digest(lap)
    with pytest.raises(ConfigError, match="leave --weights"):
        open_network(NetworkOptions(str(tmp_path / form), arguments={"num_classes": 2}), 2)


@pytest.mark.parametrize("half", [False, True])
def test_a_timm_name_takes_a_file_of_weights(half: bool, tmp_path: Path) -> None:
    path = weights_file(tmp_path, half=half)
    network = subject(NAME, weights=path)
    reference = timm.create_model(NAME, num_classes=2).eval()
    torch.manual_seed(0)
    reference.load_state_dict(timm.create_model(NAME, num_classes=2).state_dict())
    expected = Subject(reference, network.classes, network.statistics, image_size=32)
    torch.testing.assert_close(logits(network), logits(expected), atol=2e-3 if half else 1e-6, rtol=1e-2)
    cfg = reference.pretrained_cfg
    assert network.statistics == (tuple(cfg["mean"]), tuple(cfg["std"]))


def test_one_logit_is_two_classes(tmp_path: Path) -> None:
    network = subject(NAME, weights=weights_file(tmp_path, 1), arguments={"num_classes": 1})
    assert logits(network).shape == (2, 2)
    with pytest.raises(ContractError, match="2 classes"):
        subject(NAME, 3, weights=weights_file(tmp_path, 1), arguments={"num_classes": 1})


def test_code_runs_only_where_it_is_allowed(plugin: str) -> None:
    options = {"mean": (0.5,), "std": (0.25,)}
    with pytest.raises(ConfigError, match="--plugin"):
        subject(f"{plugin}:build", **options)
    network = subject(f"{plugin}:build", 3, arguments={"classes": 3}, plugins=(plugin,), **options)
    assert logits(network).shape == (2, 3)
    assert network.statistics == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("build", {"broken": True}, "RuntimeError: no weights here"),
        ("build", {"colour": 1}, "colour"),
        ("nothing", {}, "no function 'nothing'"),
        ("number", {}, "returned int"),
    ],
)
def test_what_is_wrong_with_code_is_told(plugin: str, name: str, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        open_network(NetworkOptions(f"{plugin}:{name}", arguments=arguments, plugins=(plugin,)), 2)


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        (NAME, {}, "has no weights"),
        ("resnet18x", {"weights": Path("w.safetensors")}, "did you mean"),
        ("nowhere/at/all", {"weights": Path("w.safetensors")}, "no network"),
        (NAME, {"weights": Path("missing.safetensors")}, "no such file"),
        (NAME, {"arguments": {"pretrained": True, "checkpoint_path": "x"}}, "checkpoint_path"),
        (NAME, {"arguments": {"colour": "red"}, "weights": Path("w.safetensors")}, "colour"),
    ],
)
def test_what_is_no_network_is_told(model: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InterpError, match=expected) as caught:
        subject(model, **options)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another network"):
        subject(NAME, 5, weights=weights_file(tmp_path))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mean": (0.5,)}, "both"),
        ({"mean": (0.5, 0.5), "std": (1.0,)}, "one number or three"),
        ({"mean": (0.5,), "std": (0.0,)}, "above 0"),
        ({}, "--mean and --std"),
    ],
)
def test_normalisation_is_never_guessed(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        statistics_of(torch.nn.Linear(1, 1), NetworkOptions("mine", **options))


def test_the_description_changes_with_the_weights(tmp_path: Path) -> None:
    options = NetworkOptions(NAME, weights=weights_file(tmp_path), device="cpu")
    network = open_subject(options, ["a", "b"], image_size=32)
    facts = describe_network(options, network)
    assert facts["name"] == NAME
    assert facts["file"] == str(options.weights)
    again = network_options(json.loads(json.dumps(facts)), device="cpu")
    assert open_network(again, 2).state_dict().keys() == network.lap.backbone.state_dict().keys()
    assert again.mean == network.statistics[0]
    with torch.no_grad():
        next(network.lap.backbone.parameters()).add_(1)
    assert facts["digest"] != describe_network(options, network)["digest"]

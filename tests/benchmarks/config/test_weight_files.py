"""Weights from files: those that hold numbers alone are read, others are refused before they could do anything."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file, save_model

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import ModelConfig, Normalisation
from benchmarks.config.run import RunConfig
from benchmarks.config.weight_files import file_digest, holds_lap, load_weights, read_weights
from benchmarks.plan.cells import train_cells
from benchmarks.plan.components import RunComponents
from benchmarks.run.networks import build_network


def network(seed: int = 1) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=10)


class Harmful:
    """Runs something when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def save_weights(path: Path, how: str) -> Path:
    state = network().state_dict()
    if how == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        wrapped = {
            "plain": state,
            "state_dict": {"state_dict": state, "epoch": 3},
            "module": {f"module.{key}": value for key, value in state.items()},
        }[how]
        torch.save(wrapped, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("how", ["safetensors", "plain", "state_dict", "module"])
@pytest.mark.parametrize("lap", [False, True])
def test_weights_of_a_checkpoint_replace_random_ones(tmp_path: Path, how: str, lap: bool) -> None:
    path = save_weights(tmp_path / f"a.{'safetensors' if how == 'safetensors' else 'pt'}", how)
    model = ModelConfig(name="mine", backbone="test_resnet", lap=lap, checkpoint=path)
    built = build_network(model, 10, 0)
    state, expected = (built.backbone if lap else built).state_dict(), network().state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_what_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": network().state_dict(), "more": Harmful(tmp_path / "harm")}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=r"refused.*safetensors") as raised:
        read_weights(tmp_path / "a.pt")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_files_that_hold_no_weights_are_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigError, match="no such file"):
        read_weights(path)
    for content in (b"", b"nonsense", b"\x80\x04nonsense"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=f"checkpoint {path}"):
            read_weights(path)
    torch.save({"epoch": 3}, tmp_path / "b.pt")
    with pytest.raises(ConfigError, match="no state dict"):
        read_weights(tmp_path / "b.pt")


def test_weights_of_another_network_are_told(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "a.pt", "plain")
    with pytest.raises(ConfigError, match="another network"):
        load_weights(timm.create_model("test_resnet", num_classes=3), path)


def test_timm_s_own_field_is_not_taken() -> None:
    with pytest.raises(ValueError, match="field checkpoint"):
        ModelConfig(name="a", backbone="test_resnet", kwargs={"checkpoint_path": "a.pt"})


def test_a_missing_checkpoint_is_told_before_anything_is_computed(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(models=[{"name": "a", "backbone": "test_resnet", "checkpoint": "none.pt"}])
    with pytest.raises(ConfigError, match=r"none\.pt: there is no such file"):
        RunComponents(config)


@pytest.mark.slow
def test_cells_follow_the_content_of_a_checkpoint_and_not_its_place(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    def key(path: Path) -> str:
        config = tiny(models=[{"name": "a", "backbone": "test_resnet", "checkpoint": str(path)}])
        return train_cells(config, RunComponents(config))[0].key

    first, second = save_weights(tmp_path / "a.pt", "plain"), tmp_path / "b.pt"
    second.write_bytes(first.read_bytes())
    assert key(first) == key(second)
    before = file_digest(second)
    save_weights(second, "state_dict")
    assert file_digest(second) != before
    assert key(first) != key(second)


def test_normalisation_is_checked() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Normalisation(mean=(0, 0, 0), std=(1, 0, 1))


@pytest.mark.slow
def test_weights_of_a_network_with_its_lap_come_back_with_it(tmp_path: Path) -> None:
    fields = {"name": "lap", "backbone": "test_resnet", "lap": True, "attach": {"refine": 4}}
    first = build_network(ModelConfig(**fields), 5, seed=0)
    with torch.no_grad():
        first.head.a.fill_(1.5)  # type: ignore[union-attr, operator]
    save_model(first, str(tmp_path / "lap.safetensors"))
    assert holds_lap(tmp_path / "lap.safetensors")
    model = ModelConfig(**fields, checkpoint=tmp_path / "lap.safetensors")
    again = build_network(model, 5, seed=1)
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in again.state_dict().items())
    ablated = build_network(model.model_copy(update={"fixed": ("a",)}), 5, seed=1)
    assert ablated.head.a.item() == 0  # type: ignore[union-attr, operator]
    assert not ablated.head.a.requires_grad  # type: ignore[union-attr]


def test_weights_of_a_backbone_hold_no_lap(tmp_path: Path) -> None:
    save_model(
        build_network(ModelConfig(name="plain", backbone="test_resnet"), 5, seed=0), str(tmp_path / "plain.safetensors")
    )
    assert not holds_lap(tmp_path / "plain.safetensors")


class Wrapper(torch.nn.Module):
    """A network as trainers wrap it: under another name, with a loss that has weights beside it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        setattr(self, name, network())
        self.criterion = torch.nn.Linear(3, 3)


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


LIGHTNING = {"pytorch-lightning_version": "2.2", "epoch": 3, "callbacks": {}, "hparams_name": "kwargs"}
HYPERPARAMETERS = {
    "lr": 0.1, "folder": Path("data"), "best": np.float64(0.5), "args": argparse.Namespace(a=3), "seeds": np.arange(3)
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        lambda: {**LIGHTNING, "state_dict": Wrapper("model").state_dict(), "hyper_parameters": HYPERPARAMETERS},
        lambda: {**LIGHTNING, "state_dict": Wrapper("net").state_dict()},
        lambda: {"state_dict": {f"model.model.{key}": value for key, value in network().state_dict().items()}},
        lambda: {"model_state_dict": network().state_dict(), "optimizer_state_dict": {"state": {}}},
        lambda: {"net": network().state_dict(), "acc": 91.3},
        lambda: {"weights_of_mine": network().state_dict(), "epoch": 1},
        lambda: {"state_dict": network(2).state_dict(), "state_dict_ema": network().state_dict()},
        lambda: {f"module.{key}": value for key, value in network().state_dict().items()},
        lambda: {f"_orig_mod.module.{key}": value for key, value in network().state_dict().items()},
        lambda: {f"module._orig_mod.{key}": value for key, value in network().state_dict().items()},
        lambda: {key: value for key, value in network().state_dict().items() if "num_batches" not in key},
    ],
)
def test_weights_are_found_under_every_usual_wrapping(content: Callable[[], Any], tmp_path: Path) -> None:
    target = network(5)
    load_weights(target, saved(content(), tmp_path / "a.ckpt"))
    expected = network().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in target.state_dict().items())


def test_a_prefix_may_be_missing_in_the_file(tmp_path: Path) -> None:
    target = torch.nn.Sequential(torch.nn.Identity(), network(5))
    load_weights(target, saved(network().state_dict(), tmp_path / "a.pt"))
    expected = network().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in target[1].state_dict().items())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_hugging_face_stands_for_its_weights(name: str, tmp_path: Path) -> None:
    state = {key: value.contiguous() for key, value in network().state_dict().items()}
    save_file(state, tmp_path / name) if name.endswith("safetensors") else torch.save(state, tmp_path / name)
    target = network(5)
    load_weights(target, tmp_path)
    assert torch.equal(target.state_dict()["fc.weight"], state["fc.weight"])
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match="folder"):
        load_weights(target, tmp_path)


def test_safetensors_are_recognised_by_their_content(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "a.bin", "safetensors")
    assert read_weights(path).keys() == network().state_dict().keys()


def test_tensors_that_do_not_fit_are_counted_and_named(tmp_path: Path) -> None:
    state = {name: value for name, value in network().state_dict().items() if not name.startswith("layer1")}
    path = saved({"model": {**state, "extra.weight": torch.ones(2)}}, tmp_path / "a.pt")
    target = timm.create_model("test_resnet", num_classes=3)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ConfigError) as raised:
        load_weights(target, path)
    message = str(raised.value)
    for part in ("extra.weight", "layer1", "fc.weight", "10 x", "3 x", "..."):
        assert part in message
    assert "\n" not in message
    assert len(message) < 600
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_a_whole_network_is_refused_with_its_name_and_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ResNet.*state_dict"):
        read_weights(saved(network(), tmp_path / "a.pt"))


def test_the_backbone_of_a_network_with_lap_is_not_taken_for_a_plain_one(tmp_path: Path) -> None:
    lap = build_network(ModelConfig(name="lap", backbone="test_resnet", lap=True), 10, seed=0)
    with pytest.raises(ConfigError, match="LAP"):
        load_weights(network(), saved(lap.state_dict(), tmp_path / "a.pt"))

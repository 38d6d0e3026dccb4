from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import ModelConfig
from benchmarks.config.run import RunConfig
from benchmarks.plan.cells import train_cells
from benchmarks.plan.components import RunComponents
from benchmarks.run.images import RunImages
from benchmarks.run.networks import build_network
from benchmarks.run.selection import correct_everywhere
from benchmarks.run.training import TrainedNetwork, accuracy, train_or_load
from benchmarks.store.run_folder import Store
from interp_core.errors import BackboneError
from interp_core.lap.attach import LapModel
from interp_core.training import Epoch, predict

pytestmark = pytest.mark.slow


@pytest.fixture
def setting(tiny: Callable[..., RunConfig]) -> tuple[RunConfig, RunComponents, RunImages, Store]:
    config = tiny()
    parts = RunComponents(config)
    return config, parts, RunImages(parts.dataset), Store(config.folder)


def trained(
    setting: tuple[RunConfig, RunComponents, RunImages, Store], which: int = 1
) -> tuple[TrainedNetwork, list[Epoch]]:
    config, parts, data, store = setting
    epochs: list[Epoch] = []
    cell = train_cells(config, parts)[which]
    return train_or_load(cell, parts, data, store, "cpu", epochs.append), epochs


def test_a_trained_network_is_found_again_with_the_same_logits_and_facts(
    setting: tuple[RunConfig, RunComponents, RunImages, Store],
) -> None:
    images, _ = setting[2].tensors(setting[2].split("test"))
    (first, epochs), (second, none) = trained(setting), trained(setting)
    assert (len(epochs), len(none)) == (1, 0)
    assert isinstance(second.network, LapModel)
    assert first.facts == second.facts
    assert torch.equal(predict(first.network, images), predict(second.network, images))
    assert not second.network.training


def test_the_same_seed_trains_the_same_network(
    setting: tuple[RunConfig, RunComponents, RunImages, Store], tmp_path: Path
) -> None:
    first, _ = trained(setting, 0)
    again, _ = trained((*setting[:3], Store(tmp_path / "elsewhere")), 0)
    state = again.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.network.state_dict().items())


@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_damaged_weights_are_trained_again_and_it_is_said(
    setting: tuple[RunConfig, RunComponents, RunImages, Store], ending: str
) -> None:
    trained(setting)
    store = setting[3]
    (path,) = (store.folder / "models").glob(f"*.{ending}")
    path.write_bytes(path.read_bytes()[:20])
    _, epochs = trained(setting)
    assert len(epochs) == 1
    assert "trained again" in store.set_aside[0]


def test_facts_hold_accuracies_time_and_history(setting: tuple[RunConfig, RunComponents, RunImages, Store]) -> None:
    facts = trained(setting)[0].facts
    assert 0 <= facts["test_accuracy"] <= 1
    assert facts["train_seconds"] > 0
    assert set(facts["history"][0]["terms"]) == {"cross_entropy", "presence", "absence", "area"}


def test_images_are_normalised_by_the_training_images(
    setting: tuple[RunConfig, RunComponents, RunImages, Store],
) -> None:
    data = setting[2]
    images, _ = data.tensors(data.split("train"))
    assert images.mean((0, 2, 3)).abs().max() < 1e-3
    assert (images.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_twins_start_from_the_same_weights() -> None:
    plain, lap = (
        build_network(ModelConfig(name="m", backbone="test_resnet", lap=lap), 10, seed=3) for lap in (False, True)
    )
    state = lap.backbone.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize(
    "changes", [{"kwargs": {"output_stride": 3}}, {"kwargs": {"nonsense": 1}}, {"lap": True, "attach": {"size": 1}}]
)
def test_arguments_that_do_not_fit_name_the_model(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="model mine: test_resnet cannot be made"):
        build_network(ModelConfig(name="mine", backbone="test_resnet", **changes), 10, 0)


def test_a_network_without_convolutional_features_is_refused() -> None:
    with pytest.raises(BackboneError, match="not convolutional"):
        build_network(ModelConfig(name="mine", backbone="test_vit", lap=True), 10, 0)


class Answers(torch.nn.Module):
    """Return the logits that are written in the images."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.nothing = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.roll(images[:, 0, 0], self.shift, dims=1)


def numbered(images: torch.Tensor, targets: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor, Any]]:
    """Yield batches with the indices of their images."""
    numbers = torch.arange(len(images)).split(size)
    parts = zip(images.split(size), targets.split(size), numbers, strict=True)
    return [(images, targets, numbers.numpy()) for images, targets, numbers in parts]


def test_only_images_that_every_network_gets_right_are_taken() -> None:
    images = torch.eye(4)[:, None, None, :]
    right, shifted = (Answers(shift) for shift in (0, 1))
    targets = torch.tensor([0, 1, 0, 3])
    for size in (4, 1):
        batches = numbered(images, targets, size)
        assert correct_everywhere([right], batches, 5).tolist() == [0, 1, 3]
        assert correct_everywhere([right], batches, 2).tolist() == [0, 1]
        with pytest.raises(ConfigError, match="train longer"):
            correct_everywhere([right, shifted], batches, 5)


def test_no_batch_is_made_after_the_last_image_is_found() -> None:
    images, targets = torch.eye(4)[:, None, None, :], torch.arange(4)
    batches = iter(numbered(images, targets, 1))
    assert correct_everywhere([Answers(0)], batches, 2).tolist() == [0, 1]
    assert len(list(batches)) == 2


def test_accuracy_of_batches_is_that_of_all_images() -> None:
    images, targets = torch.eye(4)[:, None, None, :], torch.tensor([0, 1, 0, 3])
    assert accuracy(Answers(0), numbered(images, targets, 3)) == 0.75


def test_batches_hold_what_tensors_hold(setting: tuple[RunConfig, RunComponents, RunImages, Store]) -> None:
    data = setting[2]
    split = data.split("val")
    images, targets = (torch.cat(parts) for parts in list(zip(*data.batches(split, size=7), strict=True))[:2])
    assert torch.equal(images, data.tensors(split)[0])
    assert torch.equal(targets, data.tensors(split)[1])


@pytest.mark.parametrize("content", ["[]", '{"facts": 3}', '{"facts": {"normalised_by": [[0.5], [0.5]]}}'])
def test_a_network_with_an_odd_description_is_trained_again(
    setting: tuple[RunConfig, RunComponents, RunImages, Store], content: str
) -> None:
    trained(setting)
    (path,) = (setting[3].folder / "models").glob("*.json")
    path.write_text(content)
    assert len(trained(setting)[1]) == 1
    assert "trained again" in setting[3].set_aside[0]

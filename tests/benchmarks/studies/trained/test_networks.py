"""Trained networks compute what their weights say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import ModelConfig
from benchmarks.config.plugins import load_plugin
from benchmarks.diagnosis.subject import Subject
from benchmarks.run.networks import build_network
from benchmarks.studies.trained.networks import CHANNELS, create_pneumonia_network, load_face_network, load_pneumonia
from benchmarks.studies.trained.study import HALF
from interp_core.errors import ContractError, InterpError

pytestmark = pytest.mark.slow
SIDE = 32


@pytest.fixture
def plain(tmp_path: Path) -> nn.Module:
    """A face network as people write it, with its weights in a file."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in pairwise(CHANNELS):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    network = nn.ModuleDict({"conv": nn.Sequential(*layers), "fc": nn.Linear(CHANNELS[-1] * (SIDE // 16) ** 2, 1)})
    save_file(network.half().state_dict(), tmp_path / "face.safetensors")
    return network.float()


def test_a_linear_layer_on_positions_is_pooling_of_weighted_features(plain: nn.ModuleDict, tmp_path: Path) -> None:
    network, images = load_face_network(tmp_path / "face.safetensors"), torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(network(images), plain["fc"](plain["conv"](images).flatten(1)), rtol=1e-4, atol=1e-5)


def test_contributions_of_a_face_are_its_logit(plain: nn.ModuleDict, tmp_path: Path) -> None:
    network = load_face_network(tmp_path / "face.safetensors")
    subject = Subject(network, ("no", "yes"), HALF, image_size=SIDE)
    images = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        logits = network(subject.normalise(images))[:, 0]
    maps = subject.look(images, targets=torch.ones(2, dtype=torch.int64)).maps
    torch.testing.assert_close(maps.sum((1, 2, 3)) + network[-1].bias, logits, rtol=2e-2, atol=2e-3)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(1, 1024), "fc.bias": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ContractError, match="other"):
        load_face_network(tmp_path / "other.safetensors")
    with pytest.raises(InterpError, match="other"):
        load_pneumonia(tmp_path / "other.safetensors")


def test_a_run_takes_the_network_of_radiographs_by_its_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, images = create_pneumonia_network().eval(), torch.randn(2, 3, 64, 64)
    save_file(network.state_dict(), tmp_path / "pneumonia.safetensors")
    load_plugin("benchmarks.studies.trained.timm_names")
    model = ModelConfig(
        name="lap", backbone="pneumonia_mobilenetv3_small", checkpoint=tmp_path / "pneumonia.safetensors", lap=True
    )
    with torch.no_grad():
        torch.testing.assert_close(build_network(model, 2, seed=1).eval()(images), network(images))
    with pytest.raises(ConfigError, match="2 classes"):
        build_network(model, 3, seed=1)

"""Small networks of every family, networks solvable on paper, and a snapshot of all that attaching must not change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import timm
import torch
from helpers.nets import Pooled
from torch import Tensor, nn

import interp_core
from interp_core import LapModel

# One small member a family; the probe's image is made small where the family allows it, to be quick.
SMALL = {"pretrained_cfg_overlay": {"input_size": (3, 64, 64)}}
FAMILIES: dict[str, dict[str, Any]] = {
    "test_resnet": {"zero_init_last": False},
    "mobilenetv2_050": SMALL,
    "mobilenetv3_small_050": SMALL,
    "test_efficientnet": {},
    "convnext_atto": {"ls_init_value": 1.0, **SMALL},
    "densenet121": SMALL,
    "vgg11_bn": {"mlp_ratio": 1 / 64, **SMALL},
}


@cache
def _trained_like(name: str, classes: int, in_chans: int) -> nn.Module:
    """Random weights whose activations have unit scale and whose classifier has a bias, as in a trained network."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=classes, in_chans=in_chans, **FAMILIES[name])
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, in_chans, 97, 97))
        model.get_classifier().bias.normal_()  # type: ignore[operator]
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def make_backbone(name: str = "test_resnet", *, classes: int = 4, in_chans: int = 3) -> nn.Module:
    return copy.deepcopy(_trained_like(name, classes, in_chans))


def sharpen(lap: LapModel, a: float = 2.0) -> LapModel:
    """Set every `a`, so that attention works."""
    for block in (*lap.gates, lap.head):
        nn.init.constant_(block.a, a)
    return lap


class ProtocolNet(Pooled):
    """One convolution, a layer of choice and a linear head behind timm's protocol; weights are set by the tests."""

    def __init__(self, inner: nn.Module | None = None, *, channels: int = 2, classes: int = 2, stride: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, stride, stride)
        self.inner = inner or nn.Identity()
        self.fc = nn.Linear(channels, classes)
        self.feature_info = [{"module": "stem"}, {"module": "inner"}]

    def forward_features(self, images: Tensor) -> Tensor:
        return self.inner(self.stem(images))


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything of a network that attaching, failing to attach and detaching must leave alone."""
    return {
        "modules": {name: id(module) for name, module in model.named_modules()},
        "parameters": {name: (id(p), p.requires_grad) for name, p in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for name, m in model.named_modules()
        },
        "state": [(key, value.numpy(force=True).tobytes()) for key, value in model.state_dict().items()],
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
    }


def images_of(height: int, width: int, *, count: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(name="make_backbone")
def make_backbone_fixture() -> Callable[..., nn.Module]:
    return make_backbone


@pytest.fixture
def make_lap() -> Callable[..., LapModel]:
    """A LAP model of a small member of a family, its attention at work."""

    def make(name: str = "test_resnet", *, a: float = 2.0, refine: bool = False, **kwargs: Any) -> LapModel:
        return sharpen(interp_core.attach(make_backbone(name, **kwargs), refine=refine), a)

    return make


@pytest.fixture(name="sharpen")
def sharpen_fixture() -> Callable[..., LapModel]:
    return sharpen


@pytest.fixture
def protocol_net() -> type[ProtocolNet]:
    return ProtocolNet


@pytest.fixture(name="snapshot")
def snapshot_fixture() -> Callable[[nn.Module], dict[str, Any]]:
    return snapshot


@pytest.fixture
def images() -> Tensor:
    return images_of(64, 64)


@pytest.fixture(name="images_of")
def images_of_fixture() -> Callable[..., Tensor]:
    return images_of

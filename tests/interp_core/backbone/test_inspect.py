"""What the probe finds in one member of every family, that it leaves no trace, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torchvision
from helpers.nets import Bypass
from torch import Tensor, nn

import interp_core
from interp_core.backbone.inspect import feature_layer, inspect_backbone
from interp_core.backbone.partition import PROTOCOL
from interp_core.errors import BackboneError

CHANNELS = {
    "test_resnet": 96,
    "mobilenetv2_050": 1280,
    "mobilenetv3_small_050": 288,
    "test_efficientnet": 256,
    "convnext_atto": 320,
    "densenet121": 1024,
    "vgg11_bn": 512,
}
LINEAR = {"test_resnet", "mobilenetv2_050", "test_efficientnet", "densenet121"}


@pytest.mark.slow
def test_the_probe_finds_the_same_in_every_family(family: str, make_backbone: Callable[..., nn.Module]) -> None:
    model = make_backbone(family)
    info = inspect_backbone(model)
    assert (info.in_channels, info.classes, info.channels) == (3, 4, CHANNELS[family])
    assert info.linear_head == (family in LINEAR)
    assert info.reduction == 32
    reductions = [site.reduction for site in info.sites]
    assert reductions[-3:] == [4, 8, 16]
    assert reductions == sorted(set(reductions))
    assert {site.window for site in info.sites} == {2}
    assert {site.before for site in info.sites[-3:]} == {family == "densenet121"}


@pytest.mark.slow
def test_sites_name_modules_and_their_channels(
    family: str, make_backbone: Callable[..., nn.Module], images: Tensor
) -> None:
    model = make_backbone(family)
    outputs: dict[str, Tensor] = {}
    sites = inspect_backbone(model).sites
    for site in sites:

        def look(_module: nn.Module, inputs: tuple, output: Tensor, site: Any = site) -> None:
            outputs[site.module] = inputs[0] if site.before else output

        model.get_submodule(site.module).register_forward_hook(look)
    with torch.no_grad():
        model(images)
    assert len(outputs) == len(sites)
    for site in sites:
        side = 64 // site.reduction
        assert outputs[site.module].shape == (2, site.channels, side, side)


@pytest.mark.slow
def test_the_probe_leaves_no_trace(
    family: str, make_backbone: Callable[..., nn.Module], snapshot: Callable[[nn.Module], dict]
) -> None:
    model = make_backbone(family).train()
    next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)).eval()
    before, rng = snapshot(model), torch.get_rng_state()
    inspect_backbone(model)
    assert snapshot(model) == before
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.slow
@pytest.mark.parametrize("attached", [False, True])
def test_the_feature_layer_puts_out_the_last_features(
    family: str, attached: bool, make_backbone: Callable[..., nn.Module], images: Tensor
) -> None:
    model = make_backbone(family)
    outputs: list[Tensor] = []
    layer = feature_layer(interp_core.attach(model) if attached else model)
    layer.module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.no_grad():
        features = model.forward_features(images)  # type: ignore[operator]
    assert any(output is features for output in outputs)


def test_the_feature_layer_is_the_outermost_one(protocol_net: type[Any]) -> None:
    model = protocol_net(nn.Sequential(nn.ReLU(), nn.Tanh()))
    assert feature_layer(model).module is model.inner


def test_it_has_no_feature_layer_where_a_function_comes_last(protocol_net: type[Any]) -> None:
    class Functional(protocol_net):  # type: ignore[misc]
        def forward_features(self, images: Tensor) -> Tensor:
            return super().forward_features(images).relu()

    model = Functional()
    assert inspect_backbone(model).feature_module == ""
    with pytest.raises(BackboneError, match="no layer to hook"):
        feature_layer(model)
    assert interp_core.attach(model).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


@pytest.mark.parametrize(
    ("inner", "module", "before", "window"),
    [
        (nn.AvgPool2d(2), "inner", True, 2),
        (nn.AvgPool2d((4, 4), (4, 4), (0, 0)), "inner", True, 4),
        (nn.AvgPool2d(3, 2, 1), "stem", False, 2),
        (nn.MaxPool2d(2), "stem", False, 2),
        (nn.Conv2d(2, 2, 3, 2, 1), "stem", False, 2),
        (nn.PixelUnshuffle(2), "stem", False, 2),
    ],
)
def test_average_pooling_is_replaced_and_everything_else_gated(
    inner: nn.Module, module: str, before: bool, window: int, protocol_net: type[Any]
) -> None:
    model = protocol_net(inner)
    if isinstance(inner, nn.PixelUnshuffle):
        model.fc = nn.Linear(8, 2)
    (site,) = inspect_backbone(model).sites
    assert (site.module, site.before, site.window, site.channels, site.reduction) == (module, before, window, 2, 4)


class TwoWays(nn.Module):
    """An average pooling beside a strided convolution, as in the shortcuts of a ResNet-D."""

    def __init__(self) -> None:
        super().__init__()
        self.average = nn.AvgPool2d(2)
        self.strided = nn.Conv2d(2, 2, 3, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.average(features) + self.strided(features)


def test_an_average_pooling_that_is_one_of_two_ways_is_gated_with_the_other(protocol_net: type[Any]) -> None:
    (site,) = inspect_backbone(protocol_net(TwoWays())).sites
    assert (site.module, site.before) == ("stem", False)


def test_a_network_that_keeps_its_resolution_has_no_sites(protocol_net: type[Any]) -> None:
    info = inspect_backbone(protocol_net())
    assert info.sites == ()
    assert (info.linear_head, info.reduction, info.feature_module) == (True, 4, "stem")


def test_modules_named_but_unused_are_no_sites(protocol_net: type[Any]) -> None:
    model = protocol_net(nn.MaxPool2d(2))
    model.spare = nn.ReLU()
    model.feature_info.append({"module": "spare"})
    assert [site.module for site in inspect_backbone(model).sites] == ["stem"]


def test_a_head_that_only_looks_linear_is_found_out(protocol_net: type[Any]) -> None:
    class Squashed(protocol_net):  # type: ignore[misc]
        def forward_head(self, features: Tensor) -> Tensor:
            return self.fc(features.tanh().mean((2, 3)))

    assert not inspect_backbone(Squashed()).linear_head


@pytest.mark.slow
def test_a_head_that_training_could_change_is_not_linear(protocol_net: type[Any]) -> None:
    class Normed(protocol_net):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward_head(self, features: Tensor) -> Tensor:
            return self.fc(self.norm(features.mean((2, 3))))

    lap = interp_core.attach(Normed())
    assert not lap.info.linear_head
    images = torch.rand(4, 3, 32, 32)
    for _ in range(20):
        lap.train()(images)
    assert lap.eval().explain(images, lap(images).abs().argmax(1)).gap <= 1e-5


def test_a_single_cell_does_not_tell_how_a_head_pools(protocol_net: type[Any]) -> None:
    class Highest(protocol_net):  # type: ignore[misc]
        def forward_head(self, features: Tensor) -> Tensor:
            return self.fc(features.amax((2, 3)))

    assert not inspect_backbone(Highest(), 4).linear_head


@pytest.mark.slow
def test_gates_stand_behind_blocks_and_not_inside_one_way_of_them() -> None:
    sites = inspect_backbone(torchvision.models.mobilenet_v2(), 64).sites
    assert [(site.module, site.reduction) for site in sites] == [
        ("features.1", 2),
        ("features.3", 4),
        ("features.6", 8),
        ("features.13", 16),
    ]


def test_images_have_the_channels_of_the_first_convolution(make_backbone: Callable[..., nn.Module]) -> None:
    assert inspect_backbone(make_backbone(in_chans=1)).in_channels == 1


def test_a_network_without_logits_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"Sequential gives \(1, 4, 222, 222\) where logits \(N, K\)"):
        inspect_backbone(nn.Sequential(nn.Conv2d(3, 4, 3)))


def test_the_protocol_is_named_where_no_single_map_carries_the_logits() -> None:
    with pytest.raises(BackboneError, match="no place found") as caught:
        inspect_backbone(Bypass())
    assert all(name in str(caught.value) for name in PROTOCOL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [3, None, "resnet18", nn.Conv2d])
def test_a_thing_that_is_no_module_is_refused(thing: Any) -> None:
    with pytest.raises(BackboneError, match=r"must be a torch\.nn\.Module, got"):
        inspect_backbone(thing)


def test_a_transformer_is_refused() -> None:
    model = timm.create_model("test_vit", num_classes=4)
    with pytest.raises(BackboneError, match=r"VisionTransformer is not convolutional.*resnet18"):
        feature_layer(model)


def test_features_that_are_no_tensor_are_looked_for_elsewhere(protocol_net: type[Any]) -> None:
    class Pair(protocol_net):  # type: ignore[misc]
        def forward_features(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return self.stem(images), images

        def forward_head(self, features: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
            return self.fc(features[0].mean((2, 3)))

    info = inspect_backbone(Pair())
    assert (info.feature_module, info.linear_head, info.partition.classifier) == ("stem", True, "fc")


def test_a_network_without_a_convolution_is_refused(protocol_net: type[Any]) -> None:
    model = protocol_net()
    model.stem = nn.Identity()
    with pytest.raises(BackboneError, match="has no convolution"):
        inspect_backbone(model)


@pytest.mark.slow
def test_something_else_called_info_is_not_taken_for_the_probe(make_backbone: Callable[..., nn.Module]) -> None:
    model = make_backbone()
    model.info = SimpleNamespace(feature_module="nowhere")  # type: ignore[assignment]
    assert feature_layer(model).module is model.layer4

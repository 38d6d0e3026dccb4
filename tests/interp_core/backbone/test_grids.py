"""Grids of a network's maps at the size at hand, however it strides, pools, resizes, crops and pads."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers.moving_nets import Apply, MovingNet, average, bright_place
from torch import Tensor, nn

import interp_core
from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.inspect import inspect_backbone
from interp_core.deploy.serving import Serving
from interp_core.errors import ContractError
from interp_core.lap.recording import Recording


class Head(nn.Module):
    """Average pooling and a linear layer behind some layers."""

    def __init__(self, *layers: nn.Module, channels: int = 4) -> None:
        super().__init__()
        self.features, self.fc = nn.Sequential(*layers), nn.Linear(channels, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).mean((2, 3)))


def conv(stride: int | tuple[int, int] = 2, channels: int = 4) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, 3, stride, 1)


@pytest.mark.parametrize("seed", range(40))
def test_the_map_of_lap_is_highest_where_the_evidence_is(seed: int) -> None:
    net = MovingNet(seed).eval()
    image, place = bright_place(net, seed)
    lap = interp_core.attach(net, image_size=(104, 120))
    explanation = lap.explain(image, 0)
    assert place.flatten()[explanation.map[0, 0].argmax()]
    assert explanation.gap < 1e-5
    other, other_place = bright_place(net, seed + 500)
    assert other_place.flatten()[lap.explain(other, 0).map[0, 0].argmax()]


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_every_level_has_its_evidence_where_it_is(seed: int) -> None:
    """Features below the head are highest at the cell whose centre is in the bright place."""
    net = MovingNet(seed).eval()
    image, place = bright_place(net, seed)
    lap = interp_core.attach(net, image_size=(104, 120), finest=1)
    features: dict[str, Tensor] = {}
    for site in lap.sites:
        module = net.get_submodule(site.module)
        module.register_forward_hook(
            lambda _module, inputs, output, site=site: features.update(
                {site.module: inputs[0] if site.before else output}
            )
        )
    lap.explain(image, 0)
    for site in lap.sites:
        maps = features[site.module].sum(1)[0]
        row, column = divmod(int(maps.argmax()), maps.shape[-1])
        grid = site.grid_of((image.shape[-2], image.shape[-1]))
        pixel = [round(f + p * i) for f, p, i in zip(grid.first, grid.pitch, (row, column), strict=True)]
        assert place[pixel[0], pixel[1]], site


def test_strides_keep_the_pitch_and_resizing_keeps_the_number_of_cells() -> None:
    nets = (
        Head(conv((1, 2), 3), conv((2, 2))),
        Head(conv(2, 3), nn.AdaptiveAvgPool2d((4, 8))),
        Head(Apply(lambda x: F.interpolate(x, (32, 32))), conv(4, 3)),
    )
    strided, pooling, resizing = (inspect_backbone(net, 64) for net in nets)
    assert strided.grids.fixed
    assert strided.grid_of((50, 90)) == CellGrid((0.0, 0.0), (2.0, 4.0))
    assert strided.reduction == 3
    assert pooling.grid_of((64, 64)) == CellGrid((7.0, 3.0), (16.0, 8.0))
    assert pooling.grid_of((128, 64)) == CellGrid((15.0, 3.0), (32.0, 8.0))
    assert resizing.grid_of((128, 32)).pitch == (16.0, 4.0)


def test_a_resizing_that_does_nothing_at_the_probe_is_found() -> None:
    def to_64(images: Tensor) -> Tensor:
        return images if images.shape[-2:] == (64, 64) else F.interpolate(images, (64, 64), mode="bilinear")

    net = Head(Apply(to_64), conv(8, 3))
    info = inspect_backbone(net, 64)
    assert not info.grids.fixed
    assert info.grid_of((64, 64)) == CellGrid.square(0, 8)
    assert info.grid_of((128, 128)) == CellGrid.square(0.5, 16)


def test_a_grid_is_found_once_per_size() -> None:
    calls: list[tuple[int, ...]] = []
    net = Head(conv(2, 3), nn.AdaptiveAvgPool2d(8))
    info = inspect_backbone(net, 64)
    net.features[0].register_forward_hook(lambda _module, _inputs, output: calls.append(tuple(output.shape)))
    assert len({info.grid_of((96, 80)) for _ in range(3)}) == 1
    assert calls == [(1, 4, 48, 40)]


def test_nothing_is_left_on_the_network() -> None:
    net = Head(conv(2, 3), nn.AdaptiveAvgPool2d(8)).train()
    inspect_backbone(net, 64).grid_of((96, 80))
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda lap: pickle.loads(pickle.dumps(lap))], ids=["copy", "pickle"])
def test_a_copy_finds_its_own_grids(copied: object) -> None:
    lap = interp_core.attach(timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=2), image_size=64)
    again = copied(lap)  # type: ignore[operator]
    expected = lap.info.grid_of((97, 75))
    del lap
    assert again.info.grid_of((97, 75)) == expected
    assert again.sites[0].grid_of((97, 75)).pitch == (again.sites[0].reduction,) * 2


def test_a_network_that_is_gone_says_so() -> None:
    info = inspect_backbone(Head(conv(2, 3), nn.AdaptiveAvgPool2d(8)), 64)
    assert info.grid_of((64, 64)) == CellGrid.square(3, 8)
    gc.collect()
    with pytest.raises(ContractError, match="network is gone, so that images of 96 x 96 pixels cannot be tried"):
        info.grid_of((96, 96))


def test_images_that_the_network_cannot_take_are_named() -> None:
    net = Head(Apply(lambda x: x[..., 2:, 2:]), nn.Conv2d(3, 4, 9, 4))
    lap = interp_core.attach(net, image_size=64)
    with pytest.raises(ContractError, match=r"Head cannot take images of 8 x 64 pixels: .*inspected with 64 x 64"):
        lap.explain(torch.zeros(1, 3, 8, 64))


def test_a_size_that_is_no_size_is_refused() -> None:
    for size in (0, -3, (32,), (32, 0), "32", 3.5):
        with pytest.raises(ContractError, match="image_size must be a side in pixels or"):
            interp_core.attach(Head(conv(2, 3)), image_size=size)  # type: ignore[arg-type]


def test_windows_follow_strides_that_differ_by_axis() -> None:
    lap = interp_core.attach(
        Head(conv(2, 3), nn.Conv2d(4, 4, (1, 3), (1, 2), (0, 1)), conv(2)), image_size=64, finest=1
    )
    assert [(site.window, site.reduction) for site in lap.sites] == [((1, 2), 2), (2, 3)]
    with torch.no_grad():
        for gate in lap.gates:
            gate.a.fill_(2.0)  # type: ignore[union-attr,operator]
    recording = Recording()
    lap(torch.rand(2, 3, 48, 64), recording)
    for site in lap.sites:
        gate = recording.gates[site.module].gate
        pooled = F.avg_pool2d(gate, site.window)
        assert gate.std() > 0
        torch.testing.assert_close(pooled, torch.ones_like(pooled))
    assert lap.explain(torch.rand(2, 3, 50, 70), 1).gap < 1e-5


def test_layouts_are_told_apart_whatever_the_sizes() -> None:
    """8 channels of 8 x 12 cells, channels last; 8 x 8 x 12 looks like a square map of 12 channels."""

    class ChannelsLast(Head):
        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.features(images).mean((1, 2)))

    net = ChannelsLast(conv(4, 3), Apply(lambda x: x.repeat(1, 2, 1, 1).permute(0, 2, 3, 1)), channels=8)
    info = inspect_backbone(net, (32, 48))
    assert (info.partition.layout.order, info.channels, info.grid) == ("NHWC", 8, (8, 12))


def test_refined_maps_lie_on_the_grid_of_their_level() -> None:
    net = Head(conv((1, 2), 3), conv(2), conv(2))
    lap = interp_core.attach(net, image_size=64, refine=2)
    assert [site.grid_of((64, 96)).pitch for site in lap.refined_levels] == [(2.0, 4.0)]
    assert lap.refined_grid_of((64, 96)) == CellGrid.tiling((2.0, 4.0))
    refined = lap.explain(torch.rand(1, 3, 64, 96)).refined
    assert refined is not None
    assert refined.shape == (1, 1, 64, 96)


def test_a_compiled_model_has_the_same_map() -> None:
    net = Head(average(conv(2, 3)), nn.AdaptiveAvgPool2d((6, 8))).eval()
    images = torch.rand(1, 3, 96, 80)
    expected = interp_core.attach(copy.deepcopy(net), image_size=64).explain(images).map
    lap = interp_core.attach(copy.deepcopy(net), image_size=64)
    compiled = torch.compile(Serving(lap), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images)[1], expected)
    program = torch.export.export(Serving(interp_core.attach(copy.deepcopy(net), image_size=64)), (images,))
    torch.testing.assert_close(program.module()(images)[1], expected)

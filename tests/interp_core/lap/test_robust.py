"""What must not matter: size and number of images, memory format, precision, compilation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.nets import OwnNet, logits_of, same_gradients, training_loss
from torch import Tensor, nn

import interp_core
from interp_core import Explanation, LapModel
from interp_core.backbone.geometry import CellGrid

MakeLap = Callable[..., LapModel]
Images = Callable[..., Tensor]
Sharpen = Callable[..., LapModel]

FOUR = ["test_resnet", "convnext_atto", "mobilenetv2_050", "densenet121"]
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def same_scorers() -> None:
    torch.manual_seed(0)


@pytest.fixture
def own_lap(sharpen: Sharpen) -> LapModel:
    return sharpen(interp_core.attach(OwnNet().eval(), image_size=64))


@pytest.fixture(autouse=True)
def forget_compiled() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def sums_per_window(weights: Tensor, window: int | None) -> Tensor:
    if window is None:
        return weights.sum((2, 3))
    return F.avg_pool2d(weights, window, ceil_mode=True, divisor_override=1)


def check_identities(lap: LapModel, explanation: Explanation, gap: float = 1e-5) -> None:
    """Attention sums to 1 in every window, contributions to the logit on every level and on the pixels."""
    windows = {site.module: site.window for site in lap.sites} | {"head": None}
    gated = [level for level in explanation.levels if level.attention is not None]
    assert {level.name for level in gated} == set(windows)
    for level in gated:
        sums = sums_per_window(level.attention.double(), windows[level.name])
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=gap)
        assert (level.attention >= 0).all()
    assert replace(explanation, map=explanation.contributions).gap < gap
    assert explanation.gap < max(gap, 1e-5)  # the pixels are single precision


def close_to_scale(ours: Tensor, theirs: Tensor, share: float = 1e-5) -> None:
    """Equal but for `share` of the largest value."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=share * float(theirs.abs().max()))


# Sizes and numbers of images


@pytest.mark.slow
@pytest.mark.parametrize("size", [(65, 97), (33, 120)])
@pytest.mark.parametrize("name", FOUR)
def test_odd_sizes_and_any_batch(
    name: str, size: tuple[int, int], make_lap: MakeLap, images_of: Images, sharpen: Sharpen
) -> None:
    lap, seven = make_lap(name, a=0.0), images_of(*size, count=7)
    for images in (seven[:1], seven):
        assert torch.equal(logits_of(lap, images), logits_of(lap.backbone, images))
    check_identities(sharpen(lap), lap.explain(seven, 2))
    lap, seven = lap.double(), seven.double()
    together, alone = lap.explain(seven, 2), lap.explain(seven[3:4], 2)
    for explanation, count in ((together, 7), (alone, 1)):
        assert explanation.map.shape == (count, 1, *size)
        check_identities(lap, explanation, 1e-10)
    for ours, theirs in zip(together.levels, alone.levels, strict=True):
        close_to_scale(ours.contributions[3:4], theirs.contributions, 1e-9)


def test_the_smallest_image_is_one_cell(make_lap: MakeLap, images_of: Images) -> None:
    lap = make_lap()
    explanation = lap.explain(images_of(32, 32, count=1))
    assert explanation.head.contributions.shape == (1, 1, 1, 1)
    assert explanation.map.shape == (1, 1, 32, 32)
    check_identities(lap, explanation)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arrange", [lambda x: x.transpose(2, 3), lambda x: x[..., ::2, 1:], lambda x: x[:1].expand_as(x)]
)
def test_views_are_images_like_any_other(
    arrange: Callable[[Tensor], Tensor], make_lap: MakeLap, images_of: Images
) -> None:
    lap, images = make_lap(), arrange(images_of(96, 65))
    torch.testing.assert_close(lap.explain(images, 1).map, lap.explain(images.clone().contiguous(), 1).map)


def test_the_pitch_of_cells_is_the_product_of_the_strides(protocol_net: type[Any], images_of: Images) -> None:
    """Whatever the size of the probe; 44 pixels make 3 cells, which are nevertheless 16 pixels apart."""
    inner = nn.Sequential(nn.Conv2d(2, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 2, 1))
    infos = [interp_core.attach(protocol_net(copy.deepcopy(inner)), image_size=side).info for side in (44, 64, 75)]
    assert [(info.grid, info.reduction, info.grid_of(info.size)) for info in infos] == [
        ((3, 3), 16, CellGrid.square(1.5, 16)),
        ((4, 4), 16, CellGrid.square(1.5, 16)),
        ((5, 5), 16, CellGrid.square(1.5, 16)),
    ]


def test_a_convolution_without_padding_moves_cells_and_keeps_their_pitch(protocol_net: type[Any]) -> None:
    """12 positions become 8, which is no stride of 2."""
    info = interp_core.attach(protocol_net(nn.Sequential(nn.Conv2d(2, 2, 5), nn.AvgPool2d(2))), image_size=48).info
    # 1.5 pixels to the middle of the first patch, 2 positions of 4 pixels each, half a position.
    assert (info.grid, info.reduction, info.grid_of((48, 48))) == ((4, 4), 8, CellGrid.square(1.5 + 8 + 2, 8))


# Memory format


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", FOUR)
def test_channels_last_changes_nothing_and_is_kept(
    name: str, dtype: torch.dtype, share: float, make_lap: MakeLap, images: Tensor
) -> None:
    lap, images, last = make_lap(name).to(dtype), images.to(dtype), torch.channels_last
    expected = lap.explain(images, 1)
    converted = copy.deepcopy(lap).to(memory_format=last)  # type: ignore[call-overload]
    formats: list[tuple[bool, bool]] = []
    for block in (*converted.gates, converted.head):
        block.register_forward_hook(
            lambda _module, inputs, output: formats.append(
                (inputs[0].is_contiguous(memory_format=last), output.is_contiguous(memory_format=last))
            )
        )
    explanation = converted.explain(images.contiguous(memory_format=last), 1)
    assert formats == [(True, True)] * 4
    close_to_scale(explanation.logits, expected.logits, share)
    close_to_scale(explanation.contributions, expected.contributions, share)
    close_to_scale(explanation.map, expected.map, max(share, 1e-6))
    assert explanation.gap < 1e-5


def test_contiguous_features_stay_contiguous(make_lap: MakeLap, images: Tensor) -> None:
    lap, outputs = make_lap(), []
    for block in (*lap.gates, lap.head):
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.is_contiguous()))
    lap(images)
    assert outputs == [True] * 4


# Precision


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", FOUR)
def test_autocast_keeps_the_function(
    name: str, dtype: torch.dtype, make_lap: MakeLap, images: Tensor, sharpen: Sharpen
) -> None:
    lap = make_lap(name, a=0.0)
    with torch.autocast("cpu", dtype=dtype):
        ours, plain = logits_of(lap, images), logits_of(lap.backbone, images)
        assert ours.dtype == plain.dtype == dtype
        assert torch.equal(ours, plain)
        explanation = sharpen(lap).explain(images, 1)
        assert explanation.gap < 0.05
    assert explanation.map.dtype == torch.float32
    for level in explanation.levels:
        assert torch.isfinite(level.contributions).all()
    assert torch.isfinite(explanation.map).all()
    if dtype == torch.float16:  # in bfloat16 the networks themselves, of random weights, see something else
        close_to_scale(explanation.map, lap.explain(images, 1).map, 0.2)


@pytest.mark.slow
def test_a_map_under_autocast_has_all_its_digits(make_lap: MakeLap, images_of: Images) -> None:
    """Moving contributions is a matrix product, which autocast would do in eight bits."""
    lap = make_lap()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        explanation = lap.explain(images_of(96, 96), 1)
    maps = explanation.map
    assert not torch.equal(maps, maps.bfloat16().float())
    assert torch.equal(maps, lap.to_pixels(explanation.contributions, images_of(96, 96)))
    sums = maps.double().sum((1, 2, 3))
    torch.testing.assert_close(explanation.contributions.double().sum((1, 2, 3)), sums, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", ["max", "learned"])
@pytest.mark.parametrize("classes", [4, 12])
def test_autocast_never_changes_the_type_of_features(
    classes: int, aggregate: str, make_backbone: Callable[..., nn.Module], images: Tensor, sharpen: Sharpen
) -> None:
    lap = sharpen(interp_core.attach(make_backbone(classes=classes), concepts=("fur", "eye"), aggregate=aggregate))
    types: list[tuple[torch.dtype, torch.dtype]] = []
    for block in (*lap.gates, lap.head):
        block.register_forward_hook(lambda _module, inputs, output: types.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lap(images)
    assert types == [(torch.bfloat16, torch.bfloat16)] * 4


@pytest.mark.slow
def test_it_trains_under_autocast(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = training_loss(lap, images)
    loss.backward()
    for name, parameter in lap.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "gap"), [(torch.bfloat16, 0.05), (torch.float16, 0.01), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", ["test_resnet", "convnext_atto"])
def test_a_model_of_another_precision(
    name: str, dtype: torch.dtype, gap: float, make_lap: MakeLap, images: Tensor, sharpen: Sharpen
) -> None:
    lap, inputs = make_lap(name, a=0.0).to(dtype), images.to(dtype)
    assert torch.equal(logits_of(lap, inputs), logits_of(lap.backbone, inputs))
    explanation = sharpen(lap).explain(inputs, 1)
    assert explanation.logits.dtype == dtype
    assert explanation.map.dtype == torch.float32
    assert torch.isfinite(explanation.map).all()
    check_identities(lap, explanation, gap)


# Compilation


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", ["test_resnet", "own"])
def test_the_forward_compiles_into_one_graph(
    name: str, backend: str, make_lap: MakeLap, own_lap: LapModel, images: Tensor
) -> None:
    lap = own_lap if name == "own" else make_lap(name)
    compiled = torch.compile(lap, fullgraph=True, backend=backend)
    torch.testing.assert_close(logits_of(compiled, images), logits_of(lap, images))
    explanation, expected = compiled.explain(images, 1), lap.explain(images, 1)  # type: ignore[attr-defined]
    torch.testing.assert_close(explanation.map, expected.map)


@pytest.mark.slow
def test_a_training_step_compiles_into_one_graph(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap().train()
    twin = copy.deepcopy(lap)
    training_loss(lap, images).backward()
    torch.compile(training_loss, fullgraph=True, backend="aot_eager")(twin, images).backward()
    same_gradients(twin, lap)
    assert torch.equal(twin.backbone.bn1.running_mean, lap.backbone.bn1.running_mean)  # type: ignore[union-attr, arg-type]


@pytest.mark.slow
def test_a_model_compiled_in_place_explains(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    expected = lap.explain(images)
    lap.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(lap.explain(images).map, expected.map)

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import nn

from interp_core.backbone.geometry import first_centre, resize, shift
from interp_core.backbone.inspect import inspect_backbone


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv2d(1, 1, 3, stride=2, padding=1), 0.0),
        (nn.Conv2d(1, 1, 7, stride=2, padding=3), 0.0),
        (nn.Conv2d(1, 1, 4, stride=4), 1.5),
        (nn.Conv2d(1, 1, 1, stride=2), 0.0),
        (nn.Conv2d(1, 1, 3, stride=2), 1.0),
        (nn.Conv2d(1, 1, 3, stride=2, dilation=2, padding=2), 0.0),
        (nn.MaxPool2d(3, 2, padding=1), 0.0),
        (nn.MaxPool2d(2, 2), 0.5),
        (nn.AvgPool2d((2, 2)), 0.5),
        (Conv2dSame(1, 1, 3, stride=2), 1.0),
        (nn.PixelUnshuffle(2), 0.5),
    ],
    ids=lambda thing: str(thing)[:48],
)
def test_shift_of_one_operation_is_where_its_input_gradient_is_centred(module: nn.Module, expected: float) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.ones_(module.weight)
    image = torch.zeros(1, 1, 16, 16, requires_grad=True)
    out = module(image)
    assert shift(module, 16, out.shape[-1]) == expected
    if not isinstance(module, nn.MaxPool2d):
        row = torch.autograd.grad(out[0, :, 2, 2].sum(), image)[0][0, 0].abs().sum(0)
        positions = row.nonzero()[:, 0].float()
        assert (positions.min() + positions.max()) / 2 == expected + 2 * round(16 / out.shape[-1])


def test_shifts_add_up_in_pixels() -> None:
    conv, pool = nn.Conv2d(3, 3, 3, 2, 1), nn.MaxPool2d(2)
    chain: dict[int, list[tuple[nn.Module, int]]] = {32: [(conv, 16)], 16: [(pool, 8)], 8: [(pool, 4)]}
    assert first_centre(32, 4, lambda side: chain.get(side, [])) == 0 + 2 * 0.5 + 4 * 0.5
    assert first_centre(32, 8, lambda side: chain.get(side, [])) == 0 + 2 * 0.5


def test_branches_that_shrink_together_count_by_their_mean() -> None:
    branches: list[tuple[nn.Module, int]] = [(nn.Conv2d(3, 3, 3, 2, 1), 8), (nn.AvgPool2d(2), 8), (nn.AvgPool2d(16), 1)]
    assert first_centre(16, 8, lambda side: branches) == 0.25


def test_what_is_not_known_is_taken_to_tile_the_image() -> None:
    assert first_centre(224, 7, lambda side: []) == 15.5


def support_centre(model: nn.Module, size: int) -> tuple[float, int]:
    """Middle of the pixels that the middle cell depends on at all, and the cell's place; an independent measure."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.01, 0.02)  # no path may cancel another
        if isinstance(module, nn.MaxPool2d):  # the same window, and its gradient reaches all of it
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
    images = torch.rand(1, 3, size, size, requires_grad=True)
    features = model.forward_features(images)  # type: ignore[operator]
    middle = features.shape[-1] // 2
    row = torch.autograd.grad(features[0, :, middle, middle].sum(), images)[0][0].abs().sum((0, 1))
    positions = row.nonzero()[:, 0].double()
    assert positions.min() > 0
    assert positions.max() < size - 1
    return float((positions.min() + positions.max()) / 2), middle


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("test_resnet", 448, {"avg_down": False}),
        ("test_resnet", 256, {"avg_down": False, "output_stride": 8}),
        ("resnet18", 640, {}),
        ("vgg11_bn", 320, {}),
    ],
)
def test_centres_in_real_networks_are_those_of_the_receptive_fields(
    name: str, size: int, arguments: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2, **arguments).eval().double()
    info = inspect_backbone(model.float())
    centre, cell = support_centre(model, size)
    assert info.first + info.reduction * cell == pytest.approx(centre, abs=1)


def test_cells_that_tile_the_image_are_resized_as_torch_does() -> None:
    maps = torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps, (28, 36), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(maps, 28, 36, first=1.5, pitch=4), expected)


def test_cells_from_edge_to_edge_are_resized_as_torch_does() -> None:
    maps = torch.rand(2, 1, 5, 3, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps, (17, 9), mode="bilinear", align_corners=True)
    torch.testing.assert_close(resize(maps, 17, 9, first=0, pitch=4), expected)


def test_a_cell_lights_up_where_its_centre_is() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = 1
    resized = resize(maps, 32, 32, first=3, pitch=8)
    assert resized.max() == 1
    assert (resized == 1).nonzero().tolist() == [[0, 0, 11, 19]]
    assert resized[0, 0, 11, 23] == 0.5

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.inspect import inspect_backbone
from interp_core.backbone.layout import Layout
from interp_core.backbone.positions import PositionTrace, grid_of


def traced_grid(module: nn.Module, rows: int, columns: int | None = None, layout: Layout | None = None) -> CellGrid:
    """Return the grid of what a module makes of one image."""
    image = torch.zeros(1, 1, rows, columns or rows)
    with torch.no_grad(), PositionTrace(image):
        features = module(image)
    return grid_of(features, layout or Layout(), (rows, columns or rows))


class Opaque(nn.Module):
    """Module that gives no hint where its cells are."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros(1, 1, images.shape[-2] // 32, images.shape[-1] // 32)


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
    assert traced_grid(module, 16).first == (expected, expected)
    if not isinstance(module, nn.MaxPool2d):
        row = torch.autograd.grad(out[0, :, 2, 2].sum(), image)[0][0, 0].abs().sum(0)
        positions = row.nonzero()[:, 0].float()
        assert (positions.min() + positions.max()) / 2 == expected + 2 * round(16 / out.shape[-1])


def test_shifts_add_up_in_pixels() -> None:
    chain = [nn.Conv2d(1, 1, 3, 2, 1), nn.MaxPool2d(2), nn.MaxPool2d(2)]
    assert traced_grid(nn.Sequential(*chain), 32) == CellGrid.square(0 + 2 * 0.5 + 4 * 0.5, 8)
    assert traced_grid(nn.Sequential(*chain[:2]), 32) == CellGrid.square(0 + 2 * 0.5, 4)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.strided, self.average = nn.Conv2d(1, 1, 3, 2, 1), nn.AvgPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        return (self.strided(images) + self.average(images)) * nn.functional.adaptive_avg_pool2d(images, 1).sigmoid()


def test_branches_that_shrink_together_count_by_their_mean() -> None:
    assert traced_grid(Branches(), 16) == CellGrid.square(0.25, 2)


def test_what_is_not_known_is_taken_to_tile_the_image() -> None:
    assert traced_grid(Opaque(), 224) == CellGrid.square(15.5, 32)


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
    grid = info.grid_of((size, size))
    assert grid.first[0] + grid.pitch[0] * cell == pytest.approx(centre, abs=1)

"""Maps seen through every layout and put back; grids of rows of tokens; shapes that could be read two ways."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interp_core.backbone.layout import MAX_PREFIX, Layout, grid_of, layout_of

MAPS = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))  # N, C, h, w
PREFIX = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(1))


def laid_out(layout: Layout) -> Tensor:
    """`MAPS` as a network would hand them on, written out element by element."""
    if layout.order == "NCHW":
        return MAPS.clone()
    cells = [[MAPS[:, :, row, column] for column in range(4)] for row in range(3)]
    if layout.order == "NHWC":
        return torch.stack([torch.stack(row, 1) for row in cells], 1)
    tokens = torch.stack([cell for row in cells for cell in row], 1)
    return torch.cat([PREFIX[:, : layout.prefix], tokens], 1)


@pytest.fixture(params=[Layout(), Layout("NHWC"), Layout("NLC"), Layout("NLC", 2)], ids=str)
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


def test_the_map_is_seen_through_every_layout(layout: Layout) -> None:
    assert torch.equal(layout.to_map(laid_out(layout), aspect=3 / 4), MAPS)


def test_a_changed_map_is_put_back_and_the_rest_is_kept(layout: Layout) -> None:
    features = laid_out(layout)
    back = layout.from_map(2 * layout.to_map(features, 3 / 4), features)
    assert back.shape == features.shape
    assert torch.equal(back[:, layout.prefix :], 2 * features[:, layout.prefix :])
    assert torch.equal(back[:, : layout.prefix], features[:, : layout.prefix])


def test_to_map_and_back_is_the_identity(layout: Layout) -> None:
    features = laid_out(layout)
    assert torch.equal(layout.from_map(layout.to_map(features, 3 / 4), features), features)


def test_apply_changes_the_map_alone(layout: Layout) -> None:
    features = laid_out(layout)
    inputs = []

    def change(maps: Tensor) -> Tensor:
        inputs.append(maps.shape)
        return maps + 1

    changed = layout.apply(change, features)
    assert torch.equal(changed[:, layout.prefix :], features[:, layout.prefix :] + 1)
    assert torch.equal(changed[:, : layout.prefix], features[:, : layout.prefix])
    assert inputs[0][:2] == (2, 5)
    assert inputs[0][2] * inputs[0][3] == 12


def test_gradients_pass_and_prefix_tokens_have_none_of_the_map() -> None:
    layout = Layout("NLC", 2)
    features = laid_out(layout).requires_grad_()
    (gradient,) = torch.autograd.grad(layout.to_map(features, 3 / 4).sum(), features)
    assert (gradient[:, :2] == 0).all()
    assert (gradient[:, 2:] == 1).all()


def test_maps_of_grids_are_views() -> None:
    for layout in (Layout(), Layout("NHWC")):
        features = laid_out(layout)
        assert layout.to_map(features).data_ptr() == features.data_ptr()


@pytest.mark.parametrize(
    ("tokens", "aspect", "expected"),
    [
        (49, 1.0, (7, 7)),
        (1, 1.0, (1, 1)),
        (12, 3 / 4, (3, 4)),
        (12, 4 / 3, (4, 3)),
        (35, 480 / 672, (5, 7)),
        (7, 1.0, (1, 7)),
        (16, 4.0, (8, 2)),
        (16, 0.25, (2, 8)),
    ],
)
def test_grid_of_tokens(tokens: int, aspect: float, expected: tuple[int, int]) -> None:
    assert grid_of(tokens, aspect) == expected


@pytest.mark.parametrize("rows", range(1, 12))
@pytest.mark.parametrize("columns", [1, 5, 7, 11])
def test_grid_of_finds_any_grid_by_its_own_aspect(rows: int, columns: int) -> None:
    assert grid_of(rows * columns, rows / columns) == (rows, columns)


@pytest.mark.parametrize(
    ("shape", "channels", "order"),
    [
        ((1, 8, 7, 7), None, "NCHW"),
        ((1, 7, 7, 8), None, "NHWC"),
        ((1, 7, 7, 8), 8, "NHWC"),
        ((1, 7, 7, 7), None, "NCHW"),  # nothing tells
        ((1, 7, 7, 7), 7, "NCHW"),
        ((1, 8, 5, 7), None, "NCHW"),  # not of a square image
        ((1, 5, 7, 8), 8, "NHWC"),
        ((1, 8, 5, 7), 8, "NCHW"),
        ((1, 5, 7, 8), 3, "NCHW"),  # expected channels are nowhere: as if none were
        ((1, 2, 2, 16), 16, "NHWC"),
        ((1, 16, 2, 2), 16, "NCHW"),
        ((1, 8, 8, 3), 3, "NHWC"),
        ((1, 1, 1, 1), None, "NCHW"),
    ],
)
def test_grids_are_read_by_channels_or_by_the_side_that_differs(
    shape: tuple[int, ...], channels: int | None, order: str
) -> None:
    assert layout_of(torch.zeros(shape), channels=channels) == Layout(order)


@pytest.mark.parametrize("prefix", range(MAX_PREFIX + 1))
def test_rows_of_tokens_need_a_grid_and_may_have_a_prefix(prefix: int) -> None:
    tokens = torch.zeros(1, 49 + prefix, 8)
    assert layout_of(tokens, (7, 7)) == Layout("NLC", prefix)
    assert layout_of(tokens, (7, 7), channels=8) == Layout("NLC", prefix)
    assert layout_of(tokens, (7, 7), channels=9) is None
    assert layout_of(tokens) is None


@pytest.mark.parametrize("tokens", [48, 49 + MAX_PREFIX + 1, 196])
def test_rows_of_another_grid_are_no_map(tokens: int) -> None:
    assert layout_of(torch.zeros(1, tokens, 8), (7, 7)) is None


@pytest.mark.parametrize(
    "thing",
    [None, 3, [torch.zeros(1, 8, 7, 7)], torch.zeros(1, 8), torch.zeros(7), torch.zeros(1, 8, 7, 7, dtype=torch.long)],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_map_has_no_layout(thing: object) -> None:
    assert layout_of(thing, (7, 7)) is None

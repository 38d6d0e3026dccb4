from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from interp_core.backbone.geometry import CellGrid, collect, resize


def test_cells_that_tile_the_image_are_resized_as_torch_does() -> None:
    maps = torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps, (28, 36), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(maps, 28, 36, CellGrid.square(1.5, 4)), expected)


def test_cells_from_edge_to_edge_are_resized_as_torch_does() -> None:
    maps = torch.rand(2, 1, 5, 3, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps, (17, 9), mode="bilinear", align_corners=True)
    torch.testing.assert_close(resize(maps, 17, 9, CellGrid.square(0, 4)), expected)


def test_a_cell_lights_up_where_its_centre_is() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = 1
    resized = resize(maps, 32, 32, CellGrid.square(3, 8))
    assert resized.max() == 1
    assert (resized == 1).nonzero().tolist() == [[0, 0, 11, 19]]
    assert resized[0, 0, 11, 23] == 0.5


def test_rows_and_columns_have_their_own_grid() -> None:
    maps = torch.zeros(1, 1, 8, 4)
    maps[0, 0, 5, 2] = 1
    grid = CellGrid((1.0, 3.0), (2.0, 8.0))
    resized = resize(maps, 16, 32, grid)
    assert (resized == 1).nonzero().tolist() == [[0, 0, 11, 19]]
    assert (resized[0, 0, 12, 19], resized[0, 0, 11, 23]) == (0.5, 0.5)
    images = torch.rand(1, 1, 16, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((collect(images, 8, 4, grid) * maps).sum(), (resized * images).sum())


def test_maps_are_shown_a_quarter_of_the_way_from_the_tiling() -> None:
    grid = CellGrid((31.0, 0.0), (32.0, 32.0))
    assert grid.shown().first == pytest.approx((15.5 + 15.5 / 4, 15.5 - 15.5 / 4))
    assert grid.shown().pitch == grid.pitch
    assert CellGrid.tiling((8.0, 4.0)).shown() == CellGrid.tiling((8.0, 4.0))


def test_a_crop_by_more_than_a_cell_is_shown_where_it_is() -> None:
    assert CellGrid((50.0, 31.0), (16.0, 32.0)).shown().first == pytest.approx((50.0, 15.5 + 15.5 / 4))

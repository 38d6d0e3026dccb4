from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.metrics import Batch
from benchmarks.metrics.boxes import MaxBoxAcc, box_around, cross_validate, intersection_over_union, largest_box
from benchmarks.metrics.grid import GridPG, build_mosaics, draw_mosaics, share_in_cell


def box_case(n: int = 6, side: int = 32) -> Batch:
    """Build boxes as masks, and maps of the box with a faint frame around it."""
    rng = np.random.default_rng(0)
    masks, maps = np.zeros((2, n, 1, side, side))
    for mask, values in zip(masks, maps, strict=True):
        row, column = rng.integers(2, 12, 2)
        values[0, row - 2 : row + 14, column - 2 : column + 14] = 0.3
        mask[0, row : row + 12, column : column + 12] = values[0, row : row + 12, column : column + 12] = 1
    images = np.zeros((n, 3, side, side), np.float32)
    return Batch(None, images, np.zeros(n, np.int64), maps.astype(np.float32), masks.astype(bool))


class TestBoxes:
    def test_a_box_by_hand(self) -> None:
        mask = np.zeros((8, 8), bool)
        mask[2:5, 3], mask[4, 3:7] = True, True
        assert box_around(mask) == (2, 3, 5, 7)

    def test_the_largest_component_counts(self) -> None:
        values = np.zeros((8, 8))
        values[0, 0], values[4:6, 4:7], values[7, 0:2] = 9, 5, 5
        assert largest_box(values, 0.5) == (4, 4, 6, 7)
        assert largest_box(values, 0.9) == (0, 0, 1, 1)

    def test_overlap(self) -> None:
        assert intersection_over_union((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
        assert intersection_over_union((0, 0, 2, 2), (2, 2, 3, 3)) == 0
        assert intersection_over_union((0, 0, 2, 2), (0, 0, 2, 2)) == 1

    def test_each_half_takes_the_threshold_of_the_other(self) -> None:
        # Rows 0 and 2 are best at the first threshold, 1 and 3 at the second: each gets the other's.
        hits = np.array([[1.0, 0.0], [0.2, 0.9], [1.0, 0.0], [0.2, 0.9]])
        assert cross_validate(hits).tolist() == [0, 0.2, 0, 0.2]
        assert cross_validate(hits[:1]).tolist() == [1]
        assert np.isnan(cross_validate(np.full((2, 2), np.nan))).all()

    def test_a_map_with_the_right_box_at_some_threshold_is_right(self) -> None:
        case = box_case()
        assert np.array_equal(MaxBoxAcc()(case)["max_box_acc"], np.ones(6))
        assert (MaxBoxAcc()(replace(case, maps=-case.maps))["max_box_acc"] < 0.5).all()

    def test_images_without_a_mask_have_no_score(self) -> None:
        case = box_case()
        assert case.masks is not None
        case.masks[2] = False
        assert np.isnan(MaxBoxAcc()(case)["max_box_acc"]).tolist() == [False, False, True, False, False, False]


class Bright(nn.Module):
    """Logit k is the mean of channel k."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def right(_network: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return images[np.arange(len(images)), targets][:, None]


def colour_case(targets: list[int], classes: int = 4) -> Batch:
    """Build images of class k whose channel k is one."""
    labels = np.array(targets)
    images = np.zeros((len(labels), classes, 8, 8), np.float32)
    images[np.arange(len(labels)), labels] = 1
    maps = np.random.default_rng(0).random((len(labels), 1, 8, 8)).astype(np.float32)
    return Batch(Bright().eval(), images, labels, maps, None, explain=right)


class TestGrid:
    def test_mosaics_by_hand(self) -> None:
        images = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 2, 3), np.float32)
        mosaics = build_mosaics(images, np.array([[2, 0, 1, 3]]), 2)
        assert mosaics.shape == (1, 1, 4, 6)
        assert mosaics[0, 0].tolist() == [[2, 2, 2, 0, 0, 0]] * 2 + [[1, 1, 1, 3, 3, 3]] * 2

    @pytest.mark.parametrize("cells", [2, 3])
    def test_every_mosaic_holds_its_image_at_its_place_and_no_class_twice(self, cells: int) -> None:
        targets = np.arange(20) % 10
        members, positions = draw_mosaics(targets, cells, seed=0)
        assert members.shape == (20, cells**2)
        assert np.array_equal(members[np.arange(20), positions], np.arange(20))
        assert all(len(set(targets[row])) == cells**2 for row in members)
        assert len(set(positions.tolist())) > 1

    def test_shares_by_hand(self) -> None:
        maps = np.zeros((2, 1, 4, 4))
        maps[0, 0, 0, 3], maps[0, 0, 3, 0] = 3, 1
        assert share_in_cell(maps, np.array([1, 0]), 2).tolist() == [0.75, 0]

    def test_the_right_map_lies_in_its_cell_and_a_flat_one_by_chance(self) -> None:
        case = colour_case([0, 1, 2, 3, 0, 1])
        assert np.array_equal(GridPG()(case)["grid_pg"], np.ones(6))

        def flat(_network: nn.Module, images: np.ndarray, _targets: np.ndarray) -> np.ndarray:
            return np.random.default_rng(0).random((len(images), 1, *images.shape[-2:])) + 100

        assert np.allclose(GridPG()(replace(case, explain=flat))["grid_pg"], 0.25, atol=0.01)

    def test_too_few_classes_have_no_score(self) -> None:
        assert np.isnan(GridPG()(colour_case([0, 1, 2, 2]))["grid_pg"]).all()
        assert np.isnan(GridPG(cells=3)(colour_case([0, 1, 2, 3]))["grid_pg"]).all()


def test_a_network_sees_the_mosaics() -> None:
    case = colour_case([0, 1, 2, 3])
    assert case.model is not None
    members, _ = draw_mosaics(case.targets, 2, 0)
    logits = case.model(torch.from_numpy(build_mosaics(case.images, members, 2)))
    assert torch.allclose(logits, torch.full((4, 4), 0.25))

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.metrics import Batch
from benchmarks.metrics.grid import GridPG, build_mosaics, draw_mosaics, share_in_cell


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

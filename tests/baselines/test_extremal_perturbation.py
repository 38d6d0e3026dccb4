"""Extremal perturbations: masks, areas and blur by hand, and a network whose only region is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines.extremal_perturbation import (
    LEVELS,
    ExtremalPerturbation,
    area_losses,
    blur_levels,
    margin,
    show,
    smooth_masks,
)


def test_a_perfect_mask_of_its_area_loses_nothing() -> None:
    mask = torch.zeros(1, 1, 10, 10)
    mask[..., :2, :] = 1
    assert area_losses(mask, torch.tensor([0.2])).tolist() == [0.0]
    assert area_losses(mask, torch.tensor([0.5])).tolist() == pytest.approx([0.3])
    assert area_losses(1 - mask, torch.tensor([0.2])).tolist() == pytest.approx([0.6])


def test_masks_of_equal_cells_are_equal_and_keep_0_and_1() -> None:
    for value in (0.0, 1.0):
        masks = smooth_masks(torch.full((2, 1, 8 + 2 * margin(1.5), 8 + 2 * margin(1.5)), value), 1.5)
        torch.testing.assert_close(masks, torch.full((2, 1, 8, 8), value), atol=0.05, rtol=0)


def test_one_cell_makes_a_round_spot() -> None:
    reach = margin(2.0)
    cells = torch.zeros(1, 1, 9 + 2 * reach, 9 + 2 * reach)
    cells[..., 4 + reach, 4 + reach] = 1
    mask = smooth_masks(cells, 2.0)[0, 0]
    torch.testing.assert_close(mask, mask.T)
    torch.testing.assert_close(mask, mask.flip(0))
    assert mask[4, 4] == mask.max() > 0.99
    assert mask[4, 4:].diff().max() <= 1e-6
    assert mask[0, 0] < 0.01


def test_a_mask_of_1_shows_the_image_and_of_0_its_blur() -> None:
    image = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    levels, ones = blur_levels(image), torch.ones(1, 1, 24, 32)
    torch.testing.assert_close(show(levels, ones), image)
    torch.testing.assert_close(show(levels, 0 * ones), levels[:, 0])
    torch.testing.assert_close(show(levels, ones * 2.5 / (LEVELS - 1)), (levels[:, 2] + levels[:, 3]) / 2)
    assert levels.std((2, 3, 4)).diff().min() > 0


@pytest.mark.slow
def test_finds_the_only_region_the_model_looks_at(
    region_net: nn.Module, board: Tensor, box: tuple[slice, slice]
) -> None:
    explainer = ExtremalPerturbation(areas=(0.06,), steps=150, cells=16, width=1.5)
    maps, cost = explainer.measure(region_net, board, 1)
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[box] = False
    assert maps[0, 0][box].mean() > 3 * maps[0, 0][outside].mean()
    assert (cost.forwards, cost.backwards) == (150, 150)


@pytest.mark.slow
def test_the_batch_size_changes_nothing_but_the_batches(plain: nn.Module, images: Tensor) -> None:
    targets, largest = torch.tensor([3, 0]), []
    plain.register_forward_pre_hook(lambda _, inputs: largest.append(len(inputs[0])))
    options = {"areas": (0.1, 0.3), "steps": 4, "cells": 8}
    single, pairs = (
        ExtremalPerturbation(internal_batch_size=size, **options)(plain, images, targets)  # type: ignore[arg-type]
        for size in (1, 4)
    )
    assert largest.count(2) == 2 * 4
    assert max(largest) == 4
    torch.testing.assert_close(single, pairs, rtol=1e-3, atol=1e-5)

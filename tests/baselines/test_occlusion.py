"""Occlusion on networks whose answer is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.occlusion import Occlusion

TARGETS = torch.tensor([2, 1])


def test_on_a_linear_network_a_window_is_worth_its_products(images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    products = net.get_parameter("1.weight")[TARGETS].view(2, 3, 32, 32) * images
    sums = F.avg_pool2d(products.sum(1, keepdim=True), 8) * 64
    expected = F.interpolate(sums, (32, 32), mode="nearest").detach()
    maps = Occlusion(window=0.25, stride=0.25)(net, images, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4)


def test_finds_the_only_region_the_model_looks_at(region_net: nn.Module, board: Tensor, box: tuple) -> None:
    maps = Occlusion()(region_net, board, torch.tensor([1]))[0, 0]
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[4:20, 12:28] = False
    assert maps[box].min() > 0
    assert torch.equal(maps[outside], torch.zeros(int(outside.sum())))


@pytest.mark.slow
@pytest.mark.parametrize(("side", "windows"), [(224, 13 * 13), (56, 13 * 13)])
def test_the_budget_is_that_of_the_head(side: int, windows: int) -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    cost = Occlusion(internal_batch_size=64).measure(net, torch.randn(1, 3, side, side), torch.tensor([0]))[1]
    assert cost.forwards == windows + 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_batch_size_changes_nothing_but_the_batches(plain: nn.Module, images: Tensor, size: int) -> None:
    largest: list[int] = []
    plain.register_forward_pre_hook(lambda _, inputs: largest.append(len(inputs[0])))
    maps = Occlusion(window=0.25, stride=0.125, internal_batch_size=size)(plain, images, TARGETS)
    assert max(largest) <= size
    expected = Occlusion(window=0.25, stride=0.125)(plain, images, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_step_is_never_longer_than_the_window(plain: nn.Module, images: Tensor) -> None:
    maps = Occlusion(window=0.1, stride=0.5)(plain, images, TARGETS)
    assert maps.ne(0).float().mean() > 0.9

"""Integrated Gradients on networks whose integral is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines.integrated_gradients import IntegratedGradients

TARGETS = torch.tensor([2, 1])


@pytest.fixture
def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))


@pytest.mark.parametrize("frozen", [False, True])
def test_on_a_linear_model_is_weight_times_image(linear: nn.Sequential, images: Tensor, frozen: bool) -> None:
    linear.requires_grad_(not frozen)
    weights = linear.get_parameter("1.weight")[TARGETS].view(2, 3, 32, 32)
    expected = (weights * images).sum(1, keepdim=True).detach()
    torch.testing.assert_close(IntegratedGradients(steps=2)(linear, images, TARGETS), expected)


def test_of_a_cubic_is_the_cube(images: Tensor) -> None:
    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x**3).flatten(1).sum(1, keepdim=True)

    maps = IntegratedGradients(steps=4)(Cubic(), images, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(maps, (images**3).sum(1, keepdim=True), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_sums_to_the_difference_of_the_logits(plain: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        change = (plain(images) - plain(torch.zeros_like(images)))[torch.arange(2), TARGETS]
    maps = IntegratedGradients(steps=200)(plain, images, TARGETS)
    torch.testing.assert_close(maps.sum((1, 2, 3)), change, rtol=0.02, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_batch_size_changes_nothing_but_the_batches(plain: nn.Module, images: Tensor, size: int) -> None:
    largest: list[int] = []
    plain.register_forward_pre_hook(lambda _, inputs: largest.append(len(inputs[0])))
    maps, cost = IntegratedGradients(steps=5, internal_batch_size=size).measure(plain, images, TARGETS)
    assert max(largest) <= max(size, 1)
    assert cost.forwards == 10
    torch.testing.assert_close(maps, IntegratedGradients(steps=5)(plain, images, TARGETS), rtol=1e-3, atol=1e-6)

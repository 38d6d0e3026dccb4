"""Kernel SHAP: Shapley values of games that can be solved, and of networks whose only region is known."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.kernel_shap import KernelShap, quiet_shap, shapley_values
from baselines.lime import superpixels

pytestmark = pytest.mark.slow


def test_players_of_a_product_share_it() -> None:
    values = shapley_values(lambda game: game[:, 0] * game[:, 1] * 6 + game[:, 2], 4, 1000)
    np.testing.assert_allclose(values, [3, 3, 1, 0], atol=1e-9)


def test_values_sum_to_the_value_of_all_also_when_they_are_estimated() -> None:
    np.random.seed(0)  # noqa: NPY002
    weights = np.random.default_rng(0).normal(size=30)
    values = shapley_values(lambda game: np.tanh(game @ weights), 30, 200)
    np.testing.assert_allclose(values.sum(), np.tanh(weights.sum()), atol=1e-9)
    assert np.corrcoef(values, weights)[0, 1] > 0.8


def test_a_linear_network_gives_each_superpixel_its_products(images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)).eval()
    maps = KernelShap(samples_at_224=800, segments_at_224=60)(net, images, torch.tensor([3, 0]))
    products = (net[1].weight[[3, 0]].view_as(images) * images).sum(1).detach()  # type: ignore[index, union-attr]
    for image, values, expected in zip(images, maps, products, strict=True):
        labels = superpixels(image.permute(1, 2, 0).numpy(), 15).ravel()
        assert len(np.unique(labels)) > 3
        sums = [np.bincount(labels, each.numpy().ravel()) for each in (values, expected)]
        np.testing.assert_allclose(*sums, atol=1e-3)


def test_the_budget_is_that_of_the_head(plain: nn.Module) -> None:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    players = superpixels(images[0].permute(1, 2, 0).numpy(), 29).max() + 1
    largest: list[int] = []
    plain.register_forward_pre_hook(lambda _, inputs: largest.append(len(inputs[0])))
    cost = KernelShap(batch_size=50).measure(plain, images, 0)[1]
    assert 0 <= cost.forwards - (585 + 2 * players) <= 4  # the image, and the image without everything
    assert max(largest) == 50
    assert cost.backwards == 0


def test_what_shap_logs_is_silenced_and_put_back() -> None:
    logger = logging.getLogger("shap")
    level = logger.level
    with quiet_shap():
        assert not logger.isEnabledFor(logging.INFO)
    assert logger.level == level

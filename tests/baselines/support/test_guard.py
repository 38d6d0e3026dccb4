"""The guard: models and generators come out as they went in, and passes are counted."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.support.guard import Cost, count_passes, preserve, seed_generators
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow


@pytest.fixture
def net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


@pytest.fixture
def points() -> Tensor:
    return torch.arange(20.0).view(5, 1, 2, 2)


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(1))  # noqa: NPY002


def test_seeded_gives_the_same_draws_inside_and_the_caller_s_after() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with seed_generators(7):
        first = draws()
    with seed_generators(7):
        assert draws() == first
    assert draws() == expected


def test_seeded_puts_the_generators_back_after_an_error() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with pytest.raises(KeyError), seed_generators(3):
        raise KeyError(draws())
    assert draws() == expected


def test_seeded_takes_seeds_beyond_numpy_s_range() -> None:
    with seed_generators(2**40 + 1):
        first = draws()
    with seed_generators(2**40 + 1):
        assert draws() == first


def test_preserved_evaluates_inside_and_keeps_mixed_training_flags(net: nn.Sequential) -> None:
    net.train()
    net[2].eval()
    with preserve(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == [True, True, True, False, True, True]


def test_preserved_takes_off_the_hooks_left_behind_and_keeps_the_caller_s(net: nn.Sequential, points: Tensor) -> None:
    calls: list[str] = []
    net[1].register_forward_hook(lambda *_: calls.append("caller"))
    with preserve(net):
        net[1].register_forward_hook(lambda *_: calls.append("left behind"))
        net[3].register_forward_pre_hook(lambda *_: calls.append("left behind"))
        net[3].register_full_backward_hook(lambda *_: None)
    net(points)
    assert calls == ["caller"]
    assert not net[3]._backward_hooks


def test_preserved_puts_gradients_and_their_flags_back(net: nn.Sequential, points: Tensor) -> None:
    gradient = torch.ones(3)
    net[4].bias.grad = gradient
    net[1].weight.requires_grad_(False)
    with preserve(net):
        net.requires_grad_(True)
        net.zero_grad()
        net(points).sum().backward()
    assert net[4].bias.grad is gradient
    assert net[1].bias.grad is None
    assert not net[1].weight.requires_grad


@pytest.mark.parametrize("tensor", ["4.weight", "2.running_mean"])
def test_preserved_catches_changed_parameters_and_buffers(net: nn.Sequential, tensor: str) -> None:
    target = dict([*net.named_parameters(), *net.named_buffers()])[tensor]
    with pytest.raises(ContractError, match="changed parameters or buffers"), preserve(net), torch.no_grad():
        target.add_(1)


def test_preserved_catches_batch_statistics_moved_in_training_mode(net: nn.Sequential, points: Tensor) -> None:
    with pytest.raises(ContractError, match="changed parameters or buffers"), preserve(net):
        net.train()(points)


def test_preserved_lets_the_caller_s_error_through(net: nn.Sequential) -> None:
    with pytest.raises(KeyError), preserve(net):
        raise KeyError


def test_counted_adds_up_images_forward_and_backward(net: nn.Sequential, points: Tensor) -> None:
    cost = Cost(images=5)
    with count_passes(net.eval(), cost):
        net(points)
        net(points[:2])[:, 0].sum().backward()
        with torch.no_grad():
            net(points[:1])
    assert (cost.images, cost.forwards, cost.backwards) == (5, 8, 2)
    assert 0 < cost.model_seconds <= cost.seconds
    assert cost.peak_bytes is None
    assert not net._forward_hooks
    assert not net._forward_pre_hooks


def test_counted_stops_counting_afterwards_even_after_an_error(net: nn.Sequential, points: Tensor) -> None:
    cost = Cost()
    with pytest.raises(KeyError), count_passes(net.eval(), cost):
        raise KeyError
    net(points)
    assert cost.forwards == 0
    assert not net._forward_hooks

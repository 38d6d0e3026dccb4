"""Information bottleneck: its information by hand, its layer, and a network whose evidence is known."""

from __future__ import annotations

import pytest
import torch
from helpers.moving_nets import MovingNet, bright_place
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from baselines.bottleneck import Bottleneck, information
from baselines.support.stages import stages_of

TARGETS = torch.tensor([3, 0])


def test_information_is_the_divergence_from_the_noise() -> None:
    shares, features = torch.tensor([0.0, 0.3, 0.9]), torch.tensor([5.0, -2.0, 1.0])
    expected = kl_divergence(Normal(shares * features, 1 - shares), Normal(torch.zeros(3), torch.ones(3)))
    torch.testing.assert_close(information(shares, features), expected)
    assert information(shares, features)[0] == 0


def test_without_a_reason_to_keep_it_information_goes(plain: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        plain.get_parameter("fc.weight").zero_()
    few, many = (Bottleneck(steps=steps, samples=2)(plain, images, TARGETS) for steps in (1, 8))
    assert many.sum() < 0.3 * few.sum()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3, 5])
def test_information_is_left_where_the_evidence_is(seed: int) -> None:
    net = MovingNet(seed).eval()
    with torch.no_grad():
        net.fc.weight.mul_(300)
    image, place = bright_place(net, seed)
    maps = Bottleneck()(net, image, 0)[0, 0]
    assert maps[place].mean() > 2 * maps[~place].mean()


def test_takes_the_layer_nearest_to_the_size_asked_for(plain: nn.Module) -> None:
    reductions = [stage.reduction for stage in stages_of(plain)]
    assert reductions == sorted(reductions)
    assert len(set(reductions)) > 1


@pytest.mark.slow
def test_the_batch_size_changes_nothing(plain: nn.Module, images: Tensor) -> None:
    options = {"steps": 2, "samples": 3}
    single, pairs = (
        Bottleneck(internal_batch_size=size, **options)(plain, images, TARGETS)  # type: ignore[arg-type]
        for size in (1, 6)
    )
    torch.testing.assert_close(single, pairs, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_budget_is_the_paper_s(plain: nn.Module, images: Tensor) -> None:
    cost = Bottleneck().measure(plain, images, TARGETS)[1]
    assert (cost.forwards / 2, cost.backwards / 2) == (101, 100)

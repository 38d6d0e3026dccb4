"""Guided Integrated Gradients: its steps by hand, its sum, and the paper's algorithm written as a loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines.guided_ig import GuidedIg, advance
from baselines.support.gradients import input_gradients


def test_the_smallest_gradients_move_first() -> None:
    position, end = torch.zeros(1, 4), torch.tensor([[1.0, -2.0, 4.0, 3.0]])
    gradients = torch.tensor([[3.0, -1.0, 0.5, 2.0]])

    def move(distance: float) -> list[float]:
        return advance(position, end, gradients, torch.tensor([distance]), 0.5)[0].tolist()

    assert move(3.0) == [0, -1, 2, 0]  # both of the first group go half of their way
    assert move(6.0) == [0, -2, 4, 0]
    assert move(8.0) == [0.5, -2, 4, 1.5]  # then the others
    assert move(99.0) == [1, -2, 4, 3]
    assert move(-1.0) == [0, 0, 0, 0]


def test_those_that_have_arrived_leave_their_place_in_the_group() -> None:
    position, end = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.ones(1, 4)
    moved = advance(position, end, torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([1.0]), 0.25)
    assert moved.tolist() == [[1, 1, 0, 0]]


def test_on_a_linear_network_the_path_does_not_matter(images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)).eval()
    expected = (net[1].weight[[3, 0]].view_as(images) * images).sum(1, keepdim=True).detach()  # type: ignore[index, union-attr]
    maps = GuidedIg(steps=7)(net, images, torch.tensor([3, 0]))
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4)


def curved() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2), nn.Tanh(), nn.Conv2d(8, 8, 3, 2), nn.SiLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 4)).eval()


def test_values_sum_to_the_change_of_the_logit(images: Tensor) -> None:
    net, targets = curved(), torch.tensor([2, 1])
    change = (net(images) - net(torch.zeros_like(images))).gather(1, targets[:, None])[:, 0]
    sums = GuidedIg()(net, images, targets).sum((1, 2, 3))
    torch.testing.assert_close(sums, change.detach(), rtol=0.05, atol=1e-4)


def paper_loop(net: nn.Module, image: Tensor, target: Tensor, steps: int) -> Tensor:
    """The paper's algorithm for one image (1, C, H, W), with a quantile for each group."""
    goal, position, values = image.flatten(), torch.zeros_like(image.flatten()), torch.zeros_like(image.flatten())
    for step in range(1, steps + 1):
        gradient = input_gradients(net, position.view_as(image), target).flatten()
        low, high = max(step / steps - 0.02, 0) * goal, min(step / steps + 0.02, 1) * goal
        wanted = goal.abs().sum() * (1 - step / steps)
        old, position = position, torch.where(position / goal < low / goal, low, position)
        while (goal - position).abs().sum() - wanted > 1e-4:
            ranked = gradient.abs().masked_fill(position == high, torch.inf)
            chosen = (ranked <= ranked.quantile(0.25, interpolation="lower")) & (position != high)
            excess, reach = (goal - position).abs().sum() - wanted, (high - position)[chosen].abs().sum()
            part = excess / reach
            position = torch.where(chosen, high if part > 1 else position + part * (high - position), position)
        values += (position - old) * gradient
    return values.view_as(image)


def test_is_the_algorithm_of_the_paper(images: Tensor) -> None:
    net, image, target = curved(), images[:1, :, :16, :16], torch.tensor([2])
    expected = paper_loop(net, image, target, 10)
    values = GuidedIg(steps=10).explain(net, image, target)
    assert torch.corrcoef(torch.stack([values.flatten(), expected.flatten()]))[0, 1] > 0.999


@pytest.mark.slow
def test_the_batch_size_changes_nothing(plain: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([3, 0])
    single, pairs = (GuidedIg(steps=5, internal_batch_size=size)(plain, images, targets) for size in (1, 2))
    torch.testing.assert_close(single, pairs, rtol=1e-2, atol=1e-4)

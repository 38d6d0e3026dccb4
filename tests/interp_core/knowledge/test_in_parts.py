"""Values and gradients in parts are those of all images together, with the graph of one part at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interp_core.knowledge.in_parts import logits_in_parts, values_in_parts


class Counting(nn.Module):
    """Small network that notes how many images it is given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 16, 5)).double()

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return self.layers(images)


def pictures() -> Tensor:
    return torch.rand(7, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


WEIGHTS = torch.linspace(-1, 2, 7, dtype=torch.float64)


def test_values_and_gradients_in_parts_are_those_of_the_whole() -> None:
    classes = torch.arange(7) % 5
    results = []
    for size in (None, 3):
        network, images = Counting(), pictures()

        def numbers(part: Tensor, rows: slice, network: Counting = network) -> Tensor:
            return network(part).log_softmax(1).gather(1, classes[rows, None])[:, 0]

        values = values_in_parts(numbers, images, size)
        (WEIGHTS * values).sum().backward()
        results.append((values.detach(), images.grad, network))
    assert results[1][2].sizes == [3, 3, 1]
    torch.testing.assert_close(results[0][:2], results[1][:2], rtol=1e-12, atol=1e-12)
    # The network gets nothing from a pass in parts: it is constant.
    assert results[1][2].layers[0].weight.grad is None


def test_values_need_no_gradient() -> None:
    network = Counting()
    images = pictures()
    with torch.no_grad():
        values = values_in_parts(lambda part, _: network(part).sum(1), images, 4)
    assert not values.requires_grad
    torch.testing.assert_close(values, network(images).sum(1).detach())
    assert network.sizes == [4, 3, 7]


def test_logits_in_parts_are_passed_again_for_their_gradient() -> None:
    gradients = []
    for size, sizes in ((None, [7]), (3, [3, 3, 1, 1, 3, 3])):
        network, images = Counting(), pictures()
        logits_in_parts(network, images, size).square().sum().backward()
        gradients.append(images.grad)
        assert sorted(network.sizes) == sorted(sizes)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)

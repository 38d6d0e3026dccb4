"""A model inside its wrappers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import interp_core
from interp_core.lap.wrappers import take_off_wrappers, unwrap
from tests.helpers.own_nets import SmallNet

WRAP: dict[str, Callable[[nn.Module], nn.Module]] = {
    "parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "both": lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
}


class Prepared(nn.Module):
    """A network of one's own, which happens to have an attribute of that name."""

    def __init__(self) -> None:
        super().__init__()
        self.module = SmallNet()

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images / 255)


@pytest.mark.parametrize("kind", WRAP)
def test_wrappers_are_taken_off(kind: str) -> None:
    wrapped = WRAP[kind](SmallNet())
    assert type(unwrap(wrapped)) is SmallNet
    assert type(take_off_wrappers(wrapped)) is SmallNet


def test_a_network_with_such_an_attribute_stays() -> None:
    net = Prepared()
    assert take_off_wrappers(net) is net


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRAP)
def test_lap_is_attached_to_the_network_inside(kind: str) -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    wrapped = WRAP[kind](SmallNet())
    lap = interp_core.attach(wrapped, image_size=32)
    assert torch.equal(lap(images), SmallNet()(images))
    assert type(interp_core.detach(lap)) is SmallNet

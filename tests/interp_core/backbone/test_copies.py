"""Copies of networks with weight norms and spectral norms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from interp_core.backbone.copies import copy_network, copy_with_plain_weights
from tests.helpers.own_nets import SmallNet

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "old weight": nn.utils.weight_norm,
    "weight": nn.utils.parametrizations.weight_norm,
    "old spectral": nn.utils.spectral_norm,
    "spectral": nn.utils.parametrizations.spectral_norm,
}


def normed(kind: str) -> SmallNet:
    net = SmallNet()
    for module in list(net.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            NORMS[kind](module)
    net(IMAGES)  # the old forms keep a weight with a history after a pass
    return net


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("copy", [copy_network, copy_with_plain_weights])
def test_a_copy_computes_the_same_and_leaves_the_original_alone(
    kind: str, copy: Callable[[nn.Module], nn.Module]
) -> None:
    net = normed(kind)
    expected = net(IMAGES)
    twin = copy(net)
    torch.testing.assert_close(twin(IMAGES), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(net(IMAGES), expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", NORMS)
def test_plain_weights_can_be_drawn_again(kind: str) -> None:
    twin = copy_with_plain_weights(normed(kind))
    assert [type(module) for module in twin.body] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU]
    before = twin.body(IMAGES)
    torch.manual_seed(1)
    twin.body[0].reset_parameters()  # type: ignore[operator]
    assert not torch.allclose(twin.body(IMAGES), before)


def test_a_network_of_inference_mode_is_copied_to_one_that_learns() -> None:
    with torch.inference_mode():
        net = SmallNet()
    twin = copy_network(net)
    assert not any(parameter.is_inference() for parameter in twin.parameters())
    twin(IMAGES).sum().backward()

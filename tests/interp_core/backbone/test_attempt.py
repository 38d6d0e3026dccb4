"""A first pass through a network, and the reasons why it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from interp_core.backbone.attempt import required_inputs, try_network
from interp_core.errors import BackboneError
from tests.helpers.own_nets import SmallNet

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Two(SmallNet):
    def forward(self, images: Tensor, age: Tensor, *, sex: Tensor, scale: float = 1.0) -> Tensor:
        return super().forward(images) * scale + age + sex


class InPlace(SmallNet):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.sub_(0.5))


def test_a_good_network_is_described_and_its_images_are_left_alone() -> None:
    before = IMAGES.clone()
    assert try_network(SmallNet(4), IMAGES).classes == 4
    assert not try_network(SmallNet(), IMAGES).changes_images
    assert try_network(InPlace(), IMAGES).changes_images
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize(
    ("make", "images", "words"),
    [
        (Two, IMAGES, ["age", "sex", "wrap"]),
        (lambda: SmallNet().bfloat16(), IMAGES, ["float32", "bfloat16", "images.to("]),
        (SmallNet, IMAGES.double(), ["float64", "images.to(torch.float32)"]),
        (SmallNet, IMAGES.to("meta"), ["meta", "cpu", "images.to('cpu')"]),
        (SmallNet, IMAGES.permute(0, 2, 3, 1), ["permute"]),
    ],
)
def test_reasons_name_what_is_wrong(make: Callable[[], nn.Module], images: Tensor, words: list[str]) -> None:
    with pytest.raises(BackboneError) as error:
        try_network(make(), images)
    assert [word for word in words if word not in str(error.value)] == []


def test_optional_inputs_are_not_required() -> None:
    assert required_inputs(Two()) == ["age", "sex"]
    assert required_inputs(SmallNet()) == []

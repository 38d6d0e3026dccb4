"""Networks that decide by the sizes of their images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import interp_core
from interp_core.errors import BackboneError, ContractError
from tests.helpers.own_nets import SmallNet

pytestmark = pytest.mark.slow

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Careful(SmallNet):
    """Checks sizes and types before and behind its body."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.ndim == 4, "images (N, C, H, W)"
        assert images.is_floating_point()
        if images.shape[1] == 1:
            images = images.repeat(1, 3, 1, 1)
        if images.size(2) % 4 or images.size(3) % 4:
            raise ValueError("sides must be multiples of 4")
        maps = self.body(images)
        assert maps.shape[-1] > 1
        return self.fc(self.pool(maps).flatten(1))


class LargeOnly(SmallNet):
    """Goes another way for large images."""

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(images)
        if maps.shape[-1] > 10:
            maps = maps * 2
        return self.fc(self.pool(maps).flatten(1))


class ByValue(SmallNet):
    """Goes another way for bright images."""

    def forward(self, images: Tensor) -> Tensor:
        if images.max() > 100:
            images = images / 255
        return super().forward(images)


def test_conditions_on_sizes_are_followed() -> None:
    net = Careful()
    lap = interp_core.attach(net, image_size=32).eval()
    assert torch.equal(lap(IMAGES), net(IMAGES))
    assert lap.explain(IMAGES).gap < 1e-5


def test_another_way_for_another_size_is_told() -> None:
    net = LargeOnly()
    lap = interp_core.attach(net, image_size=32).eval()
    assert torch.equal(lap(IMAGES), net(IMAGES))
    with pytest.raises(ContractError, match="image_size"):
        lap(torch.zeros(1, 3, 64, 64))


def test_conditions_on_pixels_are_told() -> None:
    with pytest.raises(BackboneError, match="values of the images"):
        interp_core.attach(ByValue(), image_size=32)

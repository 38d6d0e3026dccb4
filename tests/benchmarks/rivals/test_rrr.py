"""RRR's penalty by hand and by finite differences."""

from __future__ import annotations

import pytest
import torch
from helpers.rival_nets import HandNet, backbone, toy_batch
from torch import Tensor, nn

from benchmarks.rivals import build
from benchmarks.rivals.rrr import gradient_penalty

pytestmark = pytest.mark.slow

SMALL = {"image_size": 8}
STEP = 1e-5


class SmoothNet(HandNet):
    """A network with a curved answer, in double precision."""

    def forward_features(self, images: Tensor) -> Tensor:
        return torch.tanh(self.stem(images))


def smooth() -> nn.Module:
    torch.manual_seed(0)
    net = SmoothNet().double()
    with torch.no_grad():
        net.stem.weight.add_(0.2 * torch.randn_like(net.stem.weight))
    return net


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def left_half() -> Tensor:
    masks = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    masks[..., :4] = 1
    return masks


def penalty(net: nn.Module, pixels: Tensor, masks: Tensor, multi_label: bool) -> Tensor:
    pixels = pixels.detach().requires_grad_()
    return gradient_penalty(net(pixels), pixels, multi_label=multi_label, rows=torch.arange(len(pixels)), masks=masks)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_penalty_is_that_of_finite_differences(multi_label: bool) -> None:
    net, pixels = smooth(), images(1)

    def logs(x: Tensor) -> Tensor:
        p = net(x).sigmoid() if multi_label else net(x).softmax(1)
        return (p.log() + (1 - p).log()).sum() if multi_label else p.log().sum()

    expected = 0.0
    with torch.no_grad():
        for index in left_half().expand_as(pixels).nonzero():
            step = torch.zeros_like(pixels)
            step[tuple(index)] = STEP
            expected += ((logs(pixels + step) - logs(pixels - step)) / (2 * STEP)).item() ** 2
    assert penalty(net, pixels, left_half(), multi_label).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_of_the_penalty_is_that_of_finite_differences() -> None:
    net, pixels, masks = smooth(), images(), left_half().expand(2, 1, 8, 8)
    penalty(net, pixels, masks, False).backward()
    for weights, index in ((net.stem.weight, (0, 1, 2, 3)), (net.head.weight, (1, 0))):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weights[index] += sign * STEP
            values.append(penalty(net, pixels, masks, False).item())
            with torch.no_grad():
                weights[index] -= sign * STEP
        assert weights.grad is not None
        assert weights.grad[index].item() == pytest.approx((values[0] - values[1]) / (2 * STEP), rel=1e-5)


def test_rrr_looks_at_images_with_a_region_and_there_at_the_forbidden_pixels() -> None:
    net, pixels, targets = smooth(), images(), torch.tensor([0, 1])
    rival = build("rrr", net, SMALL | {"weight": 3.0})
    nothing = torch.full_like(left_half(), float("nan"))
    inside = rival.losses(pixels, targets, {"irrelevant": torch.cat([nothing, left_half()])})
    torch.testing.assert_close(inside["reasons"], 3 * penalty(net, pixels[1:], left_half(), False))
    outside = rival.losses(pixels, targets, {"object": torch.cat([nothing, left_half()])})
    torch.testing.assert_close(outside["reasons"], 3 * penalty(net, pixels[1:], 1 - left_half(), False))
    assert set(rival.losses(pixels, targets, {})) == {"cross_entropy"}


def test_training_with_rrr_lowers_the_gradient_where_nothing_may_matter() -> None:
    rival, (pixels, targets, regions) = build("rrr", backbone(), {"weight": 1000.0}), toy_batch()
    optimizer = torch.optim.AdamW(rival.parameters(), lr=1e-3)
    values = []
    for _ in range(8):
        losses = rival.train().losses(pixels, targets, {"irrelevant": regions["irrelevant"]})
        values.append(losses["reasons"].item())
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert values[-1] < 0.5 * values[0]

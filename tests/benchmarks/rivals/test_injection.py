"""RRR, energy on Grad-CAM and GAIN: their penalties by hand and by finite differences."""

from __future__ import annotations

import pytest
import timm
import torch
from helpers.rival_nets import HandNet, backbone, tiled, toy_batch
from torch import Tensor, nn

from benchmarks.rivals import build
from benchmarks.rivals.gain import mean_probability, region_loss
from benchmarks.rivals.rrr import gradient_penalty
from interp_core.errors import BackboneError

pytestmark = pytest.mark.slow

IMAGE = tiled([[1.0, 0.0], [2.0, 4.0]], [[0.0, 1.0], [1.0, 1.0]])
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


@pytest.mark.parametrize("region", ["object", "irrelevant"])
def test_energy_on_grad_cam_is_energy_on_cam_where_the_head_is_linear(region: str) -> None:
    pixels, targets, regions = toy_batch()
    results = []
    for name in ("cam_energy", "energy_grad_cam"):
        rival = build(name, backbone()).double()
        losses = rival.losses(pixels.double(), targets, {region: regions[region].double()})
        torch.stack(list(losses.values())).sum().backward()
        results.append((losses, [parameter.grad for parameter in rival.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_gain_erases_what_grad_cam_attends_to() -> None:
    net = HandNet()
    rival = build("gain", net, SMALL | {"sharpness": 1e4, "threshold": 0.3})
    # Only the lower right patch speaks for class 0, so only the places near it are erased.
    image = tiled([[0.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]])
    maps = build("cam", HandNet(), SMALL).explain(image, torch.tensor([0]))
    erased = image * (maps <= 0.3 * maps.max())
    assert 0 < (erased != image).float().mean() < 0.25
    losses = rival.losses(image, torch.tensor([0]), {})
    torch.testing.assert_close(losses["erased"], net(erased).softmax(1)[0, 0], rtol=1e-4, atol=1e-5)
    assert set(losses) == {"cross_entropy", "erased"}


def test_what_is_left_is_the_mean_probability_of_present_classes() -> None:
    logits = torch.tensor([[0.0, 0.0], [100.0, -100.0]])
    assert mean_probability(logits, torch.eye(2), multi_label=False).item() == pytest.approx(0.25)
    assert mean_probability(logits, torch.tensor([[1.0, 1.0], [1.0, 1.0]]), multi_label=True).item() == pytest.approx(
        0.5
    )
    assert mean_probability(logits, torch.zeros(2, 2), multi_label=True).item() == 0


def test_gain_s_region_term_by_hand() -> None:
    maps = torch.full((2, 1, 8, 8), 0.5, dtype=torch.float64)
    regions = torch.cat([left_half(), torch.full_like(left_half(), float("nan"))])
    assert region_loss(maps, {"object": regions}).item() == pytest.approx(0.25)
    assert region_loss(maps, {"irrelevant": regions}).item() == pytest.approx(0.25)
    assert region_loss(maps * regions.nan_to_num(0), {"object": regions}).item() == pytest.approx(0.125)
    assert region_loss(maps, {"object": torch.full_like(regions, float("nan"))}).item() == 0


def test_a_second_derivative_that_does_not_exist_is_said() -> None:
    network = timm.create_model("mobilenetv3_small_050", num_classes=3)
    with pytest.raises(BackboneError, match=r"rrr needs second derivatives .* aten::hardsigmoid_backward"):
        build("rrr", network, {"image_size": 64})


def test_a_head_without_second_derivative_is_refused_by_losses_on_grad_cam() -> None:
    class HardHead(HandNet):
        def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
            return self.head(nn.functional.hardsigmoid(features.mean((2, 3))))

    for name in ("energy_grad_cam", "gain"):
        with pytest.raises(BackboneError, match=f"{name} needs second derivatives and HardHead"):
            build(name, HardHead(), SMALL)

"""B-cos layers against their formula, and contributions against the logit."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers.rival_nets import backbone, toy_batch
from torch import Tensor

from benchmarks.rivals import build
from benchmarks.rivals.bcos import Bcos, BcosNet
from benchmarks.rivals.bcos_layers import BcosConv2d, UncentredNorm, constant_factors
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow


def bcos(**options: object) -> Bcos:
    torch.manual_seed(0)
    rival = build("bcos", backbone(), {"width": 8, **options})
    assert isinstance(rival, Bcos)
    return rival


def by_windows(layer: BcosConv2d, features: Tensor) -> Tensor:
    """|cos|^(B-1) w^ . x from every window cut out."""
    windows = F.unfold(features, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    weight = F.normalize(layer.weight.flatten(1), dim=1)
    linear = weight @ windows
    cosine = linear / windows.norm(dim=1, keepdim=True)
    return linear * cosine.abs().pow(layer.b - 1)


@pytest.mark.parametrize("b", [1.0, 2.0, 2.5])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_the_convolution_is_its_formula(b: float, kernel: int, stride: int) -> None:
    layer, features = BcosConv2d(3, 4, kernel, stride, b).double(), torch.randn(2, 3, 8, 6, dtype=torch.float64)
    expected = by_windows(layer, features)
    torch.testing.assert_close(layer(features).flatten(2), expected, rtol=1e-4, atol=1e-5)


def test_an_aligned_window_answers_with_its_length_and_an_opposite_one_with_minus_it() -> None:
    layer, window = BcosConv2d(2, 1, 1), torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    with torch.no_grad():
        layer.weight.copy_(10 * window)
        assert layer(window).item() == pytest.approx(5, rel=1e-4)
        assert layer(-window).item() == pytest.approx(-5, rel=1e-4)
        assert layer(torch.tensor([4.0, -3.0]).view(1, 2, 1, 1)).item() == pytest.approx(0, abs=1e-5)


def test_the_norm_divides_by_the_root_mean_square_and_keeps_zero_at_zero() -> None:
    norm, features = UncentredNorm(3, momentum=1.0), 5 * torch.randn(4, 3, 6, 6) + 2
    torch.testing.assert_close(norm(features).square().mean((0, 2, 3)), torch.ones(3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.eval()(features), norm.train()(features))
    assert norm.eval()(torch.zeros(1, 3, 2, 2)).abs().sum() == 0
    norm.reset_parameters()
    torch.testing.assert_close(norm(features), features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"b": 1.0}, {"b": 1.5, "depth": 3}, {"gain": 3.0}])
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_contributions_add_up_to_the_logit(options: dict[str, object], size: tuple[int, int]) -> None:
    rival, images, targets = bcos(**options).double(), torch.randn(2, 3, *size).double(), torch.tensor([2, 0])
    _step(rival)
    logits = rival.eval()(images).gather(1, targets[:, None])[:, 0].detach()
    contributions = rival.contributions(images, targets)
    assert contributions.shape == (2, 6, *size)
    torch.testing.assert_close(contributions.sum((1, 2, 3)) - math.log(2), logits)
    torch.testing.assert_close(rival.explain(images, targets), contributions.sum(1, keepdim=True).clamp(min=0))


def _step(rival: Bcos) -> None:
    images, targets, _ = toy_batch()
    (loss,) = rival.train().losses(images.to(next(rival.parameters()).dtype), targets, {}).values()
    loss.backward()
    torch.optim.SGD(rival.parameters(), lr=0.5).step()
    rival.zero_grad()


def test_only_an_explanation_holds_factors_constant() -> None:
    layer, features = BcosConv2d(3, 2, 3), torch.randn(1, 3, 5, 5, requires_grad=True)
    (plain,) = torch.autograd.grad(layer(features).sum(), features)
    with constant_factors():
        output = layer(features)
    (linear,) = torch.autograd.grad(output.sum(), features)
    torch.testing.assert_close((linear * features).sum(), output.sum())
    assert not torch.allclose(plain, linear)
    (after,) = torch.autograd.grad(layer(features).sum(), features)
    torch.testing.assert_close(after, plain)


def test_it_sees_pixels_and_their_inverses() -> None:
    normalisation = ((0.2, 0.4, 0.6), (0.5, 0.25, 0.1))
    rival = build("bcos", backbone(), {"width": 4}, normalisation)
    pixels = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(values)[:, None, None] for values in normalisation)
    code = rival.backbone.encode((pixels - mean) / std)  # type: ignore[operator]
    torch.testing.assert_close(code, torch.cat([pixels, 1 - pixels], 1))


def test_normalisation_is_timm_s_unless_it_is_given_and_is_stored_with_the_weights() -> None:
    ours = build("bcos", timm.create_model("resnet18", num_classes=3), {"width": 4, "image_size": 64})
    assert ours.state_dict()["backbone.mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    with pytest.raises(ContractError, match=r"images of 1 channels: give build\(..., normalisation=...\)"):
        build("bcos", backbone(in_chans=1))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_it_has_the_parameters_of_the_backbone(name: str) -> None:
    reference = timm.create_model(name, num_classes=5)
    rival = build("bcos", reference, {"image_size": 64})
    counts = [sum(p.numel() for p in network.parameters()) for network in (rival, reference)]
    assert counts[0] / counts[1] == pytest.approx(1, abs=0.1)


def test_it_has_the_multiplications_of_the_backbone() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    reference = backbone().eval()
    for network in (reference, build("bcos", reference, {"match": "flops", "image_size": 64})):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.randn(1, 3, 64, 64))
        counts.append(counter.get_total_flops())
    assert counts[1] / counts[0] == pytest.approx(1, abs=0.15)


def test_it_has_the_resolutions_of_the_backbone_and_no_biases() -> None:
    rival = bcos()
    assert isinstance(rival.backbone, BcosNet)
    assert (rival.info.reduction, rival.info.grid) == (8, (20, 20))
    assert not [name for name, _ in rival.named_parameters() if name.endswith("bias")]


def test_classes_start_at_their_share() -> None:
    assert bcos().backbone.constant == pytest.approx(-math.log(2))

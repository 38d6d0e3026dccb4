"""FullGrad: the identity it stands on, its map by hand, and networks on which it does not hold."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.full_grad import FullGrad, decompose, stretch_magnitudes
from interp_core.errors import ContractError

TARGETS = torch.tensor([2, 1])


def total(inputs: Tensor, biases: list[Tensor]) -> Tensor:
    return inputs.flatten(1).sum(1) + sum(bias.flatten(1).sum(1) for bias in biases)


@pytest.mark.slow
def test_input_and_biases_sum_to_the_logit(any_network: nn.Module, images: Tensor) -> None:
    logits, inputs, biases, _ = decompose(any_network, images, TARGETS)
    torch.testing.assert_close(logits, any_network(images).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(total(inputs, biases), logits[torch.arange(2), TARGETS], rtol=1e-3, atol=1e-4)
    assert FullGrad().refusal(any_network) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10t", "densenet121", "regnety_002"])
def test_the_identity_holds_on_networks_of_relu(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4).eval().double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.double)
    logits, inputs, biases, _ = decompose(model, images, TARGETS)
    torch.testing.assert_close(total(inputs, biases), logits[torch.arange(2), TARGETS], rtol=1e-6, atol=1e-9)


def test_norms_with_statistics_of_their_own(plain: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                module.bias.normal_()
    logits, inputs, biases, gates = decompose(plain, images, TARGETS)
    torch.testing.assert_close(total(inputs, biases), logits[torch.arange(2), TARGETS], rtol=1e-3, atol=1e-3)
    assert gates == 0
    assert inputs.sum().abs() < 0.99 * logits.abs().max()


def test_the_map_by_hand(images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16 * 16, 3)).eval()
    before = net[0](images).detach().requires_grad_()
    gradient = torch.autograd.grad(net[1:](before)[torch.arange(2), TARGETS].sum(), before)[0]
    bias = stretch_magnitudes(gradient * net[0].bias.detach().view(1, 4, 1, 1))  # type: ignore[union-attr]
    leaf = images.clone().requires_grad_()
    pixels = stretch_magnitudes(images * torch.autograd.grad(net(leaf)[torch.arange(2), TARGETS].sum(), leaf)[0])
    expected = pixels.sum(1, keepdim=True) + F.interpolate(bias, (32, 32), mode="bilinear").sum(1, keepdim=True)
    torch.testing.assert_close(FullGrad()(net, images, TARGETS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_gates_of_lap_are_constant_and_flagged(lap: nn.Module, plain: nn.Module) -> None:
    assert FullGrad().caveat(plain) is None
    gates = len(lap.gates) + 1  # type: ignore[arg-type]
    assert FullGrad().caveat(lap) == f"{gates} gates are held constant"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_networks_that_are_not_piecewise_linear_are_refused(name: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4).eval()
    with pytest.raises(ContractError, match=r"input and biases miss the logit by .*: it is not piecewise linear"):
        FullGrad()(model, images, TARGETS)


def test_what_cannot_be_tried_is_flagged() -> None:
    assert "was not tried" in str(FullGrad().caveat(nn.Sequential(nn.Flatten(), nn.Linear(48, 4))))


def test_stretched_goes_from_zero_to_one() -> None:
    parts = torch.tensor([[[[-4.0, 1.0]]], [[[0.0, 0.0]]]])
    assert stretch_magnitudes(parts).flatten().tolist() == [1.0, 0.0, 0.0, 0.0]

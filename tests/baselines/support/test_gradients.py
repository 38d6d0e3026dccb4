"""Explainers that differentiate the logit: against captum, against networks solved on paper."""

from __future__ import annotations

import captum.attr
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import explainers
from baselines.gradient_shap import GradientShap
from baselines.guided_grad_cam import GuidedGradCam
from baselines.integrated_gradients import IntegratedGradients
from baselines.smooth_grad import SmoothGrad
from baselines.support.gradients import max_magnitude, stack_draws, sum_over_samples
from interp_core.errors import ContractError

TARGETS = torch.tensor([2, 1])
GUIDED = ["guided_backprop", "deconvolution", "guided_grad_cam"]


@pytest.fixture
def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 12), nn.ReLU(), nn.Linear(12, 4))


@pytest.fixture
def small() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.slow
def test_saliency_is_captums(any_network: nn.Module, images: Tensor) -> None:
    expected = captum.attr.Saliency(any_network).attribute(images.clone().requires_grad_(), target=TARGETS)
    maps = explainers["saliency"]()(any_network, images, TARGETS)
    torch.testing.assert_close(maps, expected.amax(1, keepdim=True))


@pytest.mark.slow
def test_input_x_gradient_is_captums(any_network: nn.Module, images: Tensor) -> None:
    expected = captum.attr.InputXGradient(any_network).attribute(images.clone().requires_grad_(), target=TARGETS)
    maps = explainers["input_x_gradient"]()(any_network, images, TARGETS)
    torch.testing.assert_close(maps, expected.sum(1, keepdim=True).detach())


def test_input_x_gradient_of_a_linear_network_sums_to_the_logit(images: Tensor) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4, bias=False))
    maps = explainers["input_x_gradient"]()(net, images, TARGETS)
    torch.testing.assert_close(maps.sum((1, 2, 3)), net(images)[torch.arange(2), TARGETS].detach())


class Cubic(nn.Module):
    """Logit sum x^3, whose mean gradient under noise of deviation s is 3 x^2 + 3 s^2."""

    def forward(self, x: Tensor) -> Tensor:
        return (x**3).flatten(1).sum(1, keepdim=True)


def test_smooth_grad_of_a_cubic_is_known(small: Tensor) -> None:
    maps = SmoothGrad(samples=4000, noise=0.2, internal_batch_size=500)(Cubic(), small, torch.tensor([0, 0]))
    deviation = 0.2 * (small.amax((1, 2, 3)) - small.amin((1, 2, 3)))
    expected = (3 * small.square() + 3 * deviation.square()[:, None, None, None]).amax(1, keepdim=True)
    torch.testing.assert_close(maps, expected, rtol=0.1, atol=0.1)


def test_smooth_grad_tends_to_captums(two_layers: nn.Sequential, small: Tensor) -> None:
    deviation = 0.15 * float(small[0].max() - small[0].min())
    torch.manual_seed(0)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(two_layers))
    options = {"nt_samples": 2000, "nt_samples_batch_size": 500, "stdevs": deviation, "abs": False}
    expected = tunnel.attribute(small[:1].clone().requires_grad_(), target=TARGETS[:1], **options)
    maps = SmoothGrad(samples=2000, internal_batch_size=500)(two_layers, small[:1], TARGETS[:1])
    torch.testing.assert_close(maps, max_magnitude(expected).detach(), rtol=0.1, atol=0.01)


def test_a_smooth_grad_without_noise_to_speak_of_is_saliency(plain: nn.Module, images: Tensor) -> None:
    maps = SmoothGrad(samples=2, noise=1e-6)(plain, images, TARGETS)
    torch.testing.assert_close(maps, explainers["saliency"]()(plain, images, TARGETS), rtol=0.01, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_gradient_shap_of_a_linear_network_is_weight_times_difference(images: Tensor, spread: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    weights = net.get_parameter("1.weight")[TARGETS].view(2, 3, 32, 32)
    expected = (weights * images).sum(1, keepdim=True).detach()
    maps = GradientShap(samples=400, spread=spread)(net, images, TARGETS)
    # The mean of 400 baselines is off by a twentieth of their deviation, at each pixel.
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5 + spread * 0.6 * weights.abs().max().item())


@pytest.mark.slow
def test_gradient_shap_from_the_mean_alone_is_integrated_gradients(plain: nn.Module, images: Tensor) -> None:
    maps = GradientShap(samples=300, spread=0.0)(plain, images, TARGETS)
    expected = IntegratedGradients(steps=100)(plain, images, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=0.05, atol=0.03 * float(expected.abs().max()))


@pytest.mark.slow
def test_gradient_shap_sums_to_the_mean_difference_of_the_logits(two_layers: nn.Sequential, small: Tensor) -> None:
    maps = GradientShap(samples=4000, internal_batch_size=1000)(two_layers, small, TARGETS)
    baselines = torch.randn(20000, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        change = two_layers(small)[torch.arange(2), TARGETS] - two_layers(baselines).mean(0)[TARGETS]
    torch.testing.assert_close(maps.sum((1, 2, 3)), change, rtol=0, atol=0.03)


@pytest.mark.slow
def test_gradient_shap_tends_to_captums(two_layers: nn.Sequential, small: Tensor) -> None:
    torch.manual_seed(0)
    baselines = torch.randn(2000, 3, 4, 4)
    method = captum.attr.GradientShap(two_layers)
    expected = method.attribute(small[:1], baselines, target=TARGETS[:1], n_samples=4000, stdevs=0.0)
    maps = GradientShap(samples=4000, internal_batch_size=1000)(two_layers, small[:1], TARGETS[:1])
    torch.testing.assert_close(maps, expected.sum(1, keepdim=True).detach(), rtol=0, atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smooth_grad", "gradient_shap"])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_batch_size_changes_nothing_but_the_batches(name: str, size: int, plain: nn.Module, images: Tensor) -> None:
    largest_batch: list[int] = []
    plain.register_forward_pre_hook(lambda _, inputs: largest_batch.append(len(inputs[0])))
    maps, cost = explainers[name](samples=5, internal_batch_size=size).measure(plain, images, TARGETS)
    assert max(largest_batch) <= size
    assert (cost.forwards, cost.backwards) == (10, 10)
    torch.testing.assert_close(maps, explainers[name](samples=5)(plain, images, TARGETS), rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smooth_grad", "gradient_shap", "rise", "lime"])
def test_a_map_does_not_depend_on_the_place_in_the_batch(name: str, plain: nn.Module, images: Tensor) -> None:
    cheap = {"rise": {"masks": 10}, "lime": {"samples_at_224": 80}}.get(name, {"samples": 4})
    explain = explainers[name](**cheap)
    turned = explain(plain, images.flip(0), TARGETS.flip(0)).flip(0)
    torch.testing.assert_close(turned, explain(plain, images, TARGETS), rtol=1e-3, atol=1e-6)


def test_guided_and_deconvolution_by_hand(two_layers: nn.Sequential, small: Tensor) -> None:
    first, last = two_layers[1], two_layers[3]
    handed = last.weight[TARGETS].detach().relu()
    active = (first(small.flatten(1)) > 0).float()
    for name, gradient in (("guided_backprop", handed * active), ("deconvolution", handed)):
        expected = (gradient @ first.weight).view(2, 3, 4, 4).abs().amax(1, keepdim=True)
        torch.testing.assert_close(explainers[name]()(two_layers, small, TARGETS), expected.detach())


@pytest.mark.slow
def test_guided_grad_cam_is_the_product(plain: nn.Module, images: Tensor) -> None:
    guided, cam = (explainers[name]()(plain, images, TARGETS) for name in ("guided_backprop", "grad_cam"))
    torch.testing.assert_close(explainers["guided_grad_cam"]()(plain, images, TARGETS), guided * cam)
    maps = GuidedGradCam(aligned=False)(plain, images, TARGETS)
    cam = explainers["grad_cam"](aligned=False)(plain, images, TARGETS)
    torch.testing.assert_close(maps, guided * cam)


@pytest.mark.parametrize("name", GUIDED)
def test_they_are_refused_where_they_would_be_the_plain_gradient(name: str, images: Tensor) -> None:
    model = timm.create_model("test_efficientnet", num_classes=4)
    with pytest.raises(
        ContractError, match=r"nn.ReLU modules only and EfficientNet has none \(SiLU.*\): .*use saliency"
    ):
        explainers[name]()(model, images, TARGETS)


@pytest.mark.parametrize("name", GUIDED)
def test_activations_that_are_not_guided_are_named(name: str, plain: nn.Module) -> None:
    explainer = explainers[name]()
    assert explainer.caveat(plain) is None
    mixed = nn.Sequential(plain, nn.Hardswish(), nn.GELU())
    assert explainer.caveat(mixed) == "it changes nn.ReLU modules only; GELU, Hardswish keep their own gradient"


def test_draws_do_not_depend_on_their_number() -> None:
    torch.manual_seed(0)
    at_once = stack_draws(4, lambda: torch.randn(5))
    torch.manual_seed(0)
    in_two = torch.cat([stack_draws(3, lambda: torch.randn(5)), stack_draws(1, lambda: torch.randn(5))])
    assert torch.equal(at_once, in_two)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_sums_over_samples_meet_each_image_and_each_sample_once(batch_size: int) -> None:
    images, targets, draws = torch.arange(3.0).view(3, 1, 1, 1), torch.arange(3), []

    def draw(numbers: range) -> Tensor:
        draws.extend(numbers)
        return torch.tensor([float(number) for number in numbers])

    def compute(image: Tensor, labels: Tensor, samples: Tensor) -> Tensor:
        assert labels.shape == samples.shape
        return (100 * image.flatten() + 10 * labels + samples).sum()

    total = sum_over_samples(images, targets, 5, batch_size, draw, compute)
    assert total.tolist() == [10.0, 10.0 + 5 * 110, 10.0 + 10 * 110]
    assert draws == list(range(5))


def test_of_a_pixel_the_largest_channel_counts() -> None:
    gradients = torch.tensor([[[[1.0]], [[-3.0]], [[2.0]]]])
    assert max_magnitude(gradients).item() == 3.0
    assert F.relu(max_magnitude(-gradients)).item() == 3.0

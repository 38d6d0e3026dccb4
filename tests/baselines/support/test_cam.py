"""The CAM family against its formulas written out, and against each other where they coincide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from helpers.moving_nets import MovingNet, bright_place
from torch import Tensor, nn

from baselines import explainers
from baselines.score_cam import stretch
from baselines.support.cam import Cam, GradientCam, features_and_gradients, last_features, last_layer
from interp_core.errors import ContractError
from interp_core.lap.attach import attach

TARGETS = torch.tensor([2, 0])
FAMILY = sorted(name for name, cls in explainers.items() if issubclass(cls, Cam))


def cells(name: str, net: nn.Module, images: Tensor) -> Tensor:
    return explainers[name](aligned=False).explain(net, images.clone(), TARGETS)


def known(net: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, 5, 8, 8) and their gradient, which is the target's weights over the number of cells."""
    features = net.forward_features(images).detach()
    gradients = net.head.weight[TARGETS].detach()[..., None, None] / 64
    return features, gradients.expand_as(features)


def test_the_family_is_there() -> None:
    assert {"grad_cam", "grad_cam_pp", "hires_cam", "layer_cam", "score_cam", "eigen_cam"} <= set(FAMILY)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "densenet121"])
def test_features_and_gradients_are_those_of_the_network(name: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model, images = timm.create_model(name, num_classes=4).eval(), F.interpolate(images, (64, 64))
    expected = model.forward_features(images).detach().clone().requires_grad_()  # type: ignore[operator]
    logits = model.forward_head(expected.clone())[torch.arange(2), TARGETS]  # type: ignore[operator]
    features, gradients = features_and_gradients(model, last_layer(model), images, TARGETS)
    torch.testing.assert_close(features, expected.detach())
    torch.testing.assert_close(gradients, torch.autograd.grad(logits.sum(), expected)[0])
    torch.testing.assert_close(last_features(model, last_layer(model), images), expected.detach())


def test_hires_cam_by_hand_sums_to_the_logit(gap_net: Any, images: Tensor) -> None:
    features, gradients = known(gap_net, images)
    maps = cells("hires_cam", gap_net, images)
    torch.testing.assert_close(maps, (features * gradients).sum(1, keepdim=True))
    expected = gap_net(images)[torch.arange(2), TARGETS] - gap_net.head.bias[TARGETS]
    torch.testing.assert_close(maps.sum((1, 2, 3)), expected.detach())


@pytest.mark.slow
def test_behind_average_pooling_grad_cam_is_the_positive_part_of_hires_cam(plain: nn.Module, images: Tensor) -> None:
    torch.testing.assert_close(cells("grad_cam", plain, images), cells("hires_cam", plain, images).relu())


def test_elsewhere_they_differ(gap_net: Any, images: Tensor) -> None:
    gap_net.head = nn.Linear(5 * 8 * 8, 3)
    gap_net.forward_head = lambda x: gap_net.head(x.flatten(1))
    gap_net.pretrained_cfg = {"input_size": (3, 32, 32)}
    grad_cam, hires_cam = (cells(name, gap_net, images) for name in ("grad_cam", "hires_cam"))
    assert not torch.allclose(grad_cam, hires_cam.relu(), rtol=0.01)
    expected = gap_net(images)[torch.arange(2), TARGETS] - gap_net.head.bias[TARGETS]
    torch.testing.assert_close(hires_cam.sum((1, 2, 3)), expected.detach())


def test_grad_cam_pp_by_hand(gap_net: Any, images: Tensor) -> None:
    features, gradients = known(gap_net, images)
    expected = torch.zeros(2, 8, 8)
    for n in range(2):
        for c in range(5):
            g, total = float(gradients[n, c, 0, 0]), float(features[n, c].sum())
            weight = sum(g**2 / (2 * g**2 + total * g**3) * max(g, 0.0) for _ in range(64))
            expected[n] += weight * features[n, c]
    maps = cells("grad_cam_pp", gap_net, images)
    assert maps.max() > 0
    torch.testing.assert_close(maps[:, 0], expected.relu(), rtol=1e-4, atol=1e-6)


def test_grad_cam_pp_takes_no_weight_from_a_gradient_that_is_zero() -> None:
    maps = explainers["grad_cam_pp"]().combine(torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2))  # type: ignore[attr-defined]
    assert torch.equal(maps, torch.zeros(1, 1, 2, 2))


@pytest.mark.slow
def test_layer_cam_by_hand(gap_net: Any, images: Tensor) -> None:
    features, gradients = known(gap_net, images)
    expected = (features * gradients.clamp(min=0)).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(cells("layer_cam", gap_net, images), expected)


@pytest.mark.parametrize("size", [1, 3, 32])
def test_score_cam_by_hand(gap_net: Any, images: Tensor, size: int) -> None:
    features = known(gap_net, images)[0]
    expected = torch.zeros(2, 8, 8)
    for n in range(2):
        scores = []
        for channel in features[n]:
            mask = F.interpolate(channel[None, None], (32, 32), mode="bilinear")[0, 0]
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            scores.append(gap_net(images[n : n + 1] * mask)[0, TARGETS[n]].item())
        weights = np.exp(scores) / np.exp(scores).sum()
        expected[n] = (torch.from_numpy(weights).float()[:, None, None] * features[n]).sum(0).relu()
    explainer = explainers["score_cam"](aligned=False, internal_batch_size=size)
    torch.testing.assert_close(explainer.explain(gap_net, images, TARGETS)[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_score_cam_gives_flat_channels_no_weight(gap_net: Any, images: Tensor) -> None:
    masks, differs = stretch(torch.stack([torch.full((1, 4, 4), 3.0), torch.arange(16.0).view(1, 4, 4)]))
    assert differs.tolist() == [False, True]
    assert (float(masks[1].min()), float(masks[1].max())) == (0.0, 1.0)
    with torch.no_grad():
        gap_net.body[0].weight.zero_()
    assert torch.equal(cells("score_cam", gap_net, images), torch.zeros(2, 1, 8, 8))


def test_score_cam_runs_a_batch_of_masks_at_once(gap_net: Any, images: Tensor) -> None:
    sizes: list[int] = []
    last_layer(gap_net)
    gap_net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    explainers["score_cam"](internal_batch_size=4).explain(gap_net, images, TARGETS)
    assert sizes == [2, 4, 1, 4, 1]


def test_eigen_cam_is_the_first_principal_component(gap_net: Any, images: Tensor) -> None:
    features = known(gap_net, images)[0]
    for n, cam in enumerate(cells("eigen_cam", gap_net, images)):
        matrix = features[n].flatten(1).T.double().numpy()
        _, vectors = np.linalg.eigh(matrix.T @ matrix)
        expected = matrix @ vectors[:, -1]
        expected *= np.sign(expected.sum())
        np.testing.assert_allclose(cam.flatten().numpy(), np.maximum(expected, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_eigen_cam_says_that_it_does_not_look_at_the_class(plain: nn.Module, images: Tensor) -> None:
    explain = explainers["eigen_cam"]()
    assert torch.equal(explain(plain, images, TARGETS), explain(plain, images, TARGETS + 1))
    assert explain.caveat(plain) == "its map is the same for every class"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_the_batch_size_changes_nothing(name: str, plain: nn.Module, images: Tensor) -> None:
    single, pairs = (explainers[name](internal_batch_size=size)(plain, images, TARGETS) for size in (1, 2))
    torch.testing.assert_close(single, pairs, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_networks_without_a_last_map_are_refused(name: str, images: Tensor) -> None:
    with pytest.raises(ContractError, match=f"{name} cannot explain this model"):
        explainers[name]()(timm.create_model("test_vit", num_classes=4), images, TARGETS)


@pytest.mark.slow
def test_the_layer_is_looked_for_once_and_again_when_it_was_replaced(plain: Any) -> None:
    first = last_layer(plain)
    assert last_layer(plain) is first
    name = first.name.split(".")[-1]
    parent = plain.get_submodule(".".join(first.name.split(".")[:-1]))
    setattr(parent, name, nn.Sequential(getattr(parent, name)))
    assert last_layer(plain).module is plain.get_submodule(first.name)


@pytest.mark.slow
def test_a_lap_network_is_asked_at_the_layer_of_its_backbone(plain: nn.Module) -> None:
    lap = attach(plain)
    assert last_layer(lap).module is last_layer(plain).module


def test_no_hook_stays_when_the_network_fails(plain: nn.Module, images: Tensor) -> None:
    layer = last_layer(plain)
    with pytest.raises(RuntimeError):
        features_and_gradients(plain, layer, images[:, :2], TARGETS)
    assert not layer.module._forward_hooks


def test_authors_of_the_family_write_one_method(gap_net: nn.Module, images: Tensor) -> None:
    with pytest.raises(NotImplementedError, match="Cam must define cells"):
        Cam().explain(gap_net, images, TARGETS)
    with pytest.raises(NotImplementedError, match="GradientCam must define combine"):
        GradientCam().explain(gap_net, images, TARGETS)


ALL_CAMS = [name for name, cls in explainers.items() if issubclass(cls, Cam)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ALL_CAMS)
def test_every_map_is_highest_where_the_evidence_is(name: str, seed: int) -> None:
    net = MovingNet(seed).eval()
    image, place = bright_place(net, seed)
    maps = explainers[name]()(net, image, torch.tensor([0]))
    assert place.flatten()[maps[0, 0].argmax()]


@pytest.mark.parametrize("name", ALL_CAMS)
def test_the_size_is_taken_from_the_images(name: str) -> None:
    """A network that flattens its last map takes one size only, which no argument tells."""
    layers = nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
    net = nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Linear(16 * 5 * 9, 4)).eval()
    explainer = explainers[name]()
    assert "say attach(model, image_size=...)" in str(explainer.refusal(net))
    assert explainer(net, torch.rand(2, 1, 28, 44), torch.tensor([0, 2])).shape == (2, 1, 28, 44)
    assert explainer.refusal(net) is None

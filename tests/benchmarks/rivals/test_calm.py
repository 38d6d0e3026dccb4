"""CALM on a network that can be solved by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.rival_nets import HandNet, backbone, tiled, toy_batch

from benchmarks.rivals import build
from benchmarks.rivals.base import collect_notes
from benchmarks.rivals.calm import log_prior
from interp_core.errors import BackboneError

pytestmark = pytest.mark.slow

# Features X_1 and X_2 on the 2 x 2 grid; W_0 = (1, -2), W_1 = (0.5, 3).
IMAGE = tiled([[1.0, 0.0], [2.0, 4.0]], [[0.0, 1.0], [1.0, 1.0]])
SMALL = {"image_size": 8}


def test_heads_that_are_not_linear_are_refused_where_they_must_be() -> None:
    import timm

    with pytest.raises(BackboneError, match="calm needs global average pooling and one linear layer"):
        build("calm", timm.create_model("mobilenetv3_small_050", num_classes=3), {"image_size": 64})


def test_calm_s_probabilities_sum_to_one() -> None:
    rival, images = build("calm", backbone()).eval(), torch.randn(4, 3, 32, 32)
    with torch.no_grad(), collect_notes() as notes:
        probabilities = rival(images).exp()
        joint = notes["joint"].exp()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    torch.testing.assert_close(joint.sum((1, 2, 3)), torch.ones(4))
    torch.testing.assert_close(joint.sum((2, 3)), probabilities)
    maps = rival.grid_maps({"joint": joint.log()}, torch.eye(3)[[1, 1, 1, 1]])  # type: ignore[operator]
    torch.testing.assert_close(maps.sum((1, 2, 3)), probabilities[:, 1])


def test_calm_by_hand() -> None:
    rival = build("calm", HandNet(), SMALL)
    with torch.no_grad():
        rival.place.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))  # type: ignore[union-attr, operator]
        rival.place.bias.zero_()  # type: ignore[union-attr, operator]
    prior = torch.tensor([[1.0, 0.0], [2.0, 4.0]]) / 7
    scores = (
        torch.tensor([[[1.0, -2.0], [0.0, 2.0]], [[0.5, 3.0], [4.0, 5.0]]]) + torch.tensor([0.25, -0.5])[:, None, None]
    )
    expected = (scores.softmax(0) * prior).sum((1, 2))
    torch.testing.assert_close(rival(IMAGE)[0].exp(), expected, rtol=1e-4, atol=1e-6)
    losses = build("calm", HandNet(), SMALL | {"variant": "ml"}).losses
    assert set(losses(IMAGE, torch.tensor([0]), {})) == {"likelihood"}


def test_positions_that_the_relu_shuts_are_uniform() -> None:
    torch.testing.assert_close(log_prior(-torch.rand(1, 1, 2, 3)).exp(), torch.full((1, 1, 2, 3), 1 / 6))


def test_expectation_maximisation_has_the_gradient_of_the_likelihood() -> None:
    images, targets, _ = toy_batch()
    gradients = []
    for variant in ("em", "ml"):
        torch.manual_seed(1)
        rival = build("calm", backbone(), {"variant": variant}).double()
        (loss,) = rival.losses(images.double(), targets, {}).values()
        loss.backward()
        gradients.append([parameter.grad for parameter in rival.parameters()])
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0][-2:])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_calm_s_likelihood_is_the_cross_entropy_of_its_answer() -> None:
    rival, (images, targets, _) = build("calm", backbone(), {"variant": "ml"}).eval(), toy_batch()
    (loss,) = rival.losses(images, targets, {}).values()
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(rival(images), targets))

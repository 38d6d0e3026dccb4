"""FastSHAP: its subsets, its loss where the Shapley values are known, and what it learns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.rival_nets import HandNet, backbone, tiled, toy_batch, train_on_toys
from torch import Tensor

from benchmarks.rivals import build
from benchmarks.rivals.fast_shap import FastShap, draw_subsets

pytestmark = pytest.mark.slow


def test_sizes_of_subsets_follow_the_shapley_kernel() -> None:
    subsets = draw_subsets(500, 5, 20, torch.Generator().manual_seed(0))
    assert torch.equal(subsets[:, 10:], ~subsets[:, :10])
    shares = torch.bincount(subsets.sum(2).flatten(), minlength=6) / 10_000
    kernel = torch.tensor([0, 1 / 4, 1 / 6, 1 / 6, 1 / 4, 0])
    torch.testing.assert_close(shares, kernel / kernel.sum(), rtol=0, atol=0.02)
    assert (subsets.float().mean((0, 1)) - 0.5).abs().max() < 0.02  # no player is preferred


def of_hand_net(values: Callable[[Tensor], Tensor]) -> float:
    """Return the loss of values (1, 2, 2, 2) where logits are the pay-off, which is a sum over patches."""
    rival = build("fast_shap", HandNet(), {"image_size": 8, "weight": 1.0}).eval()
    assert isinstance(rival, FastShap)
    images = tiled([[1.0, 2.0], [0.0, -1.0]], [[0.5, 0.0], [3.0, 1.0]])
    rival.probabilities = lambda logits: logits  # type: ignore[method-assign]
    exact = torch.einsum("kc,nchw->nkhw", rival.backbone.head.weight, images[..., ::4, ::4]) / 4  # type: ignore[union-attr, arg-type]
    rival.class_maps = lambda _: values(exact)  # type: ignore[method-assign, assignment]
    return rival.losses(images, torch.tensor([0]), {})["shapley"].item()


def test_the_loss_is_least_at_the_shapley_values() -> None:
    assert of_hand_net(lambda exact: exact) == pytest.approx(0, abs=1e-9)
    assert of_hand_net(lambda exact: exact + 7.0) == pytest.approx(0, abs=1e-9)  # they are made to add up
    assert of_hand_net(lambda exact: exact.flip(3)) > 0.1


def test_values_add_up() -> None:
    rival, (images, targets, _) = build("fast_shap", backbone()).train(), toy_batch()
    assert isinstance(rival, FastShap)
    rival.losses(images, targets, {})
    rival.eval()
    maps, logits = rival.read(images)
    full = rival.probabilities(logits)
    values = rival.shapley_values(rival.class_maps(maps), full)
    torch.testing.assert_close(values.sum((2, 3)) + rival.empty, full)


def test_the_loss_leaves_the_network_alone() -> None:
    rival, batch = build("fast_shap", backbone()).train(), toy_batch()
    loss = rival.losses(*batch)["shapley"]
    gradients = torch.autograd.grad(loss, list(rival.backbone.parameters()), retain_graph=True, allow_unused=True)
    assert all(each is None for each in gradients)
    assert torch.autograd.grad(loss, rival.fuse.weight)[0].abs().sum() > 0  # type: ignore[union-attr, arg-type]


def test_values_find_what_the_network_uses() -> None:
    maps, squares = train_on_toys(build("fast_shap", backbone(), {"cells": 4}).train())
    assert maps[squares].mean() > 1.5 * maps[~squares].mean()


def test_what_it_last_learned_from_comes_back_with_its_weights() -> None:
    rival, (images, targets, _) = build("fast_shap", backbone()).train(), toy_batch()
    assert isinstance(rival, FastShap)
    rival.losses(images, torch.nn.functional.one_hot(targets, 3), {})
    loaded = build("fast_shap", backbone())
    loaded.load_state_dict(rival.state_dict())
    assert bool(loaded.has_sigmoid)
    torch.testing.assert_close(loaded.explain(images, targets), rival.explain(images, targets))

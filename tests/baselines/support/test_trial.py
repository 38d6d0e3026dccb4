"""Trying a method on noise: the image, what is remembered and when it is forgotten."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import Tensor, nn

from baselines.support.trial import cache_by_weights, probe_image, relative_gap, remember_shape


def test_the_image_is_one_the_network_takes(plain: nn.Module, lap: nn.Module, gap_net: nn.Module) -> None:
    for model in (plain, lap, gap_net, timm.create_model("test_vit", num_classes=4)):
        image = probe_image(model)
        assert image is not None
        assert model.eval()(image).shape[0] == 1


def test_there_is_none_where_nothing_tells_the_size() -> None:
    assert probe_image(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))) is None


def test_the_shape_of_its_images_is_remembered() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    remember_shape(model, (3, 1, 4))
    remember_shape(model, (3, 2, 2))
    image = probe_image(model)
    assert image is not None
    assert image.shape == (1, 3, 1, 4)


def test_it_is_asked_once_for_each_state_of_the_weights(plain: nn.Module) -> None:
    calls = []

    @cache_by_weights
    def find(model: nn.Module) -> float:
        assert not model.training
        calls.append(model)
        return next(model.parameters()).sum().item()

    plain.train()
    first = find(plain)
    assert find(plain) == first
    assert plain.training
    assert len(calls) == 1
    with torch.no_grad():
        next(plain.parameters()).add_(1)
    assert find(plain) != first
    assert len(calls) == 2
    state = {key: value * 2 for key, value in plain.state_dict().items()}
    plain.load_state_dict(state)
    find(plain)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("total", "expected", "gap"),
    [(1.0, 1.0, 0.0), (0.5, 1.0, 0.5), (-1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0.0, math.inf)],
)
def test_gaps_are_relative(total: float, expected: float, gap: float) -> None:
    assert relative_gap(torch.tensor(total), torch.tensor(expected)) == gap


def test_a_network_that_fails_is_left_as_it_was(plain: nn.Module) -> None:
    @cache_by_weights
    def find(model: nn.Module) -> Tensor:
        model.register_forward_hook(lambda *_: None)
        raise RuntimeError("no answer")

    plain.train()
    with pytest.raises(RuntimeError, match="no answer"):
        find(plain)
    assert plain.training
    assert not plain._forward_hooks

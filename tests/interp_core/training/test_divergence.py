"""Trainings that go wrong stop, and say what to do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import interp_core
from interp_core.errors import DivergenceError
from interp_core.training.divergence import GROWTH, LossGuard, check_weights

IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(8) % 2


def build_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))


def guard_of(*losses: dict[str, float], images: torch.Tensor = IMAGES[:4]) -> None:
    """Pass losses through a guard, one step each."""
    guard = LossGuard(0.1)
    for step, values in enumerate(losses, 1):
        tensors = {name: torch.tensor(value) for name, value in values.items()}
        guard.add(step, tensors, images, torch.tensor([4, 5, 6, 7])[: len(images)])
    guard.check()


def test_losses_that_fall_or_wobble_pass() -> None:
    guard_of({"a": 2.0, "b": 3.0}, {"a": 300.0, "b": 3.0}, {"a": 0.1, "b": -4.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_step_term_and_remedy(value: float) -> None:
    with pytest.raises(DivergenceError) as caught:
        guard_of({"a": 1.0, "order": 1.0}, {"a": 1.0, "order": value})
    for word in ("step 2", "order", "learning_rate", "0.1"):
        assert word in str(caught.value)


def test_a_loss_that_explodes_is_told() -> None:
    with pytest.raises(DivergenceError, match="step 3"):
        guard_of({"a": 2.0}, {"a": 1.0}, {"a": 2.1 * GROWTH})


def test_images_with_nan_are_named_before_the_terms() -> None:
    images = IMAGES[:4].clone()
    images[2, 0, 0, 0] = math.nan
    with pytest.raises(DivergenceError, match="images 6 "):
        guard_of({"a": math.nan}, images=images)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_fit_stops_and_stores_no_broken_checkpoint(accumulate: int, tmp_path: Path) -> None:
    recipe = interp_core.Recipe(epochs=3, batch_size=4, accumulate=accumulate, learning_rate=1e30, shift=0)
    with pytest.raises(DivergenceError, match="diverged at step"):
        interp_core.fit(build_net(), IMAGES, TARGETS, recipe=recipe, checkpoint=tmp_path / "c.pt", save_every=1)
    if (tmp_path / "c.pt").exists():
        state = torch.load(tmp_path / "c.pt", weights_only=True)["state"]
        assert all(bool(value.isfinite().all()) for value in state["sums"].values())


@pytest.mark.slow
def test_fit_names_the_image_whatever_its_place() -> None:
    images = IMAGES.clone()
    images[5, 1, 2, 3] = math.inf
    with pytest.raises(DivergenceError, match="images 5 "):
        interp_core.fit(build_net(), images, TARGETS, recipe=interp_core.Recipe(epochs=1, batch_size=4, shift=0))


def test_weights_that_are_no_numbers_are_named() -> None:
    net = build_net()
    check_weights(net)
    with torch.no_grad():
        net[1].weight[0, 0] = math.nan  # type: ignore[index]
    with pytest.raises(DivergenceError, match=r"1\.weight"):
        check_weights(net)


@pytest.mark.slow
def test_a_last_step_that_breaks_the_weights_is_told() -> None:
    recipe = interp_core.Recipe(epochs=1, batch_size=8, learning_rate=1e38, shift=0)
    with pytest.raises(DivergenceError):
        interp_core.fit(build_net(), IMAGES * 1e30, TARGETS, recipe=recipe)

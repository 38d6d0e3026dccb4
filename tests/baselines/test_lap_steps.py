from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines import explainers
from interp_core.errors import ContractError


def test_is_the_stepped_map_of_the_network(lap: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([1, 2])
    expected = lap.explain(images, targets, steps=2).stepped  # type: ignore[operator]
    torch.testing.assert_close(explainers["lap_steps"](steps=2)(lap, images, targets), expected)


def test_does_not_depend_on_the_seed(lap: nn.Module, images: Tensor) -> None:
    explainer, targets = explainers["lap_steps"](steps=2), torch.tensor([1, 2])
    assert torch.equal(*(explainer(lap, images, targets, seed=seed) for seed in (0, 1)))


@pytest.mark.parametrize("steps", [1, 4])
def test_costs_two_passes_forward_and_back_a_step(lap: nn.Module, images: Tensor, steps: int) -> None:
    _, cost = explainers["lap_steps"](steps=steps).measure(lap, images, torch.tensor([1, 2]))
    assert (cost.forwards, cost.backwards) == (2 * (1 + 2 * steps), 2 * 2 * steps)


def test_is_refused_on_a_network_without_lap(plain: nn.Module, images: Tensor) -> None:
    with pytest.raises(ContractError, match=r"ResNet has no LAP; use interp_core.attach"):
        explainers["lap_steps"]()(plain, images, torch.tensor([0, 0]))


def test_needs_a_step() -> None:
    with pytest.raises(ValueError, match="steps"):
        explainers["lap_steps"].model_validate({"steps": 0})

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines import explainers
from interp_core.errors import ContractError


def test_is_the_model_s_own_map(telling: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([1, 2])
    expected = nn.functional.interpolate(telling.explain(images, targets), (32, 32), mode="bilinear")  # type: ignore[operator]
    torch.testing.assert_close(explainers["intrinsic"]()(telling, images, targets), expected)


def test_is_refused_on_networks_that_give_no_map(plain: nn.Module, images: Tensor) -> None:
    with pytest.raises(ContractError, match="ResNet does not say explains_itself"):
        explainers["intrinsic"]()(plain, images, torch.tensor([0, 0]))


def test_is_refused_on_a_lap_network(lap: nn.Module, images: Tensor) -> None:
    with pytest.raises(ContractError, match="for a LAP network use lap"):
        explainers["intrinsic"]()(lap, images, torch.tensor([0, 0]))

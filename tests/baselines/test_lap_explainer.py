from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines import explainers
from interp_core.errors import ContractError


def test_is_the_model_s_own_map(lap: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([1, 2])
    expected = lap.explain(images, targets).map  # type: ignore[operator]
    torch.testing.assert_close(explainers["lap"]()(lap, images, targets), expected.float())


def test_depends_on_the_target(lap: nn.Module, images: Tensor) -> None:
    explain = explainers["lap"]()
    first, second = (explain(lap, images, torch.full((2,), k)) for k in (0, 1))
    assert not torch.allclose(first, second)


def test_is_refused_on_a_network_without_lap(plain: nn.Module, images: Tensor) -> None:
    with pytest.raises(ContractError, match=r"ResNet has no LAP; use interp_core.attach"):
        explainers["lap"]()(plain, images, torch.tensor([0, 0]))

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines import explainers
from interp_core.errors import ContractError


def test_is_the_decoders_map_and_not_the_network_s_own(refined: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([1, 2])
    explanation = refined.explain(images, targets)  # type: ignore[operator]
    maps = explainers["lap_refined"]()(refined, images, targets)
    torch.testing.assert_close(maps, explanation.refined)
    assert not torch.allclose(maps, explanation.map)
    assert explainers["lap_refined"].kind == "amortised"


def test_is_refused_without_decoders(lap: nn.Module, images: Tensor) -> None:
    with pytest.raises(ContractError, match=r"no decoders; use interp_core.attach\(model, refine=True\)"):
        explainers["lap_refined"]()(lap, images, torch.tensor([0, 0]))


def test_is_refused_on_a_network_without_lap(plain: nn.Module, images: Tensor) -> None:
    with pytest.raises(ContractError, match=r"ResNet has no LAP; use interp_core.attach\(model, refine=True\)"):
        explainers["lap_refined"]()(plain, images, torch.tensor([0, 0]))

"""Refusal of backbones without a second derivative."""

from __future__ import annotations

import pytest
import timm
from helpers.rival_nets import HandNet
from torch import Tensor, nn

from benchmarks.rivals import build
from interp_core.errors import BackboneError

pytestmark = pytest.mark.slow

SMALL = {"image_size": 8}


def test_a_second_derivative_that_does_not_exist_is_said() -> None:
    network = timm.create_model("mobilenetv3_small_050", num_classes=3)
    with pytest.raises(BackboneError, match=r"rrr needs second derivatives .* aten::hardsigmoid_backward"):
        build("rrr", network, {"image_size": 64})


def test_a_head_without_second_derivative_is_refused_by_losses_on_grad_cam() -> None:
    class HardHead(HandNet):
        def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
            return self.head(nn.functional.hardsigmoid(features.mean((2, 3))))

    for name in ("energy_grad_cam", "gain"):
        with pytest.raises(BackboneError, match=f"{name} needs second derivatives and HardHead"):
            build(name, HardHead(), SMALL)

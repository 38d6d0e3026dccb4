"""Networks whose layers cannot be reached."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import interp_core
from interp_core.backbone.compiled import OutputsOnly, reason_of_closed_layers, set_evaluation_mode
from interp_core.errors import BackboneError
from tests.helpers.own_nets import plain_sequence

pytestmark = pytest.mark.slow

IMAGES = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLOSED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "scripted": torch.jit.script,
    "traced": lambda net: torch.jit.trace(net, IMAGES),
    "frozen": lambda net: torch.jit.freeze(torch.jit.script(net)),
    "exported": lambda net: torch.export.export(net, (IMAGES[:2],)).module(),
    "inside": lambda net: nn.Sequential(torch.jit.script(net)),
    "quantised": lambda net: torch.ao.quantization.quantize_dynamic(net, {nn.Linear}),
}


@pytest.mark.parametrize("kind", CLOSED)
def test_attach_gives_the_true_reason(kind: str) -> None:
    net = CLOSED[kind](plain_sequence())
    set_evaluation_mode(net)
    assert reason_of_closed_layers(net)
    with pytest.raises(BackboneError) as error:
        interp_core.attach(net, image_size=32)
    assert "no convolution" not in str(error.value)
    assert "lime" in str(error.value)


def test_eager_networks_are_open() -> None:
    assert reason_of_closed_layers(plain_sequence()) is None
    assert reason_of_closed_layers(torch.fx.symbolic_trace(plain_sequence())) is None


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_program_for_two_images_takes_any_number(count: int) -> None:
    net = plain_sequence()
    shell = OutputsOnly(torch.export.export(net, (IMAGES[:2],)).module())
    torch.testing.assert_close(shell(IMAGES[:count]), net(IMAGES[:count]))

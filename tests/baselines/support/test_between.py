"""Functions met on their way: which rule applies, and what is the gate of a product."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from baselines.support.between import UNCHANGED, FunctionRules, detach, is_signal, same_logits, signal_and_gate

SIGNAL, GATE = torch.ones(2, 3, 4, 4, requires_grad=True), torch.ones(2, 3, 1, 1, requires_grad=True)


def test_functions_and_operators_are_met_by_name() -> None:
    names: list[str] = []
    with FunctionRules(
        {"relu": lambda *_: "replaced", "add": lambda *_: UNCHANGED}, lambda name, _: names.append(name)
    ):
        assert F.relu(SIGNAL) == "replaced"
        torch.testing.assert_close(SIGNAL + 1, torch.full_like(SIGNAL, 2.0))
        torch.sigmoid(SIGNAL)
    assert "sigmoid" in names
    assert isinstance(F.relu(SIGNAL), torch.Tensor)


def test_nothing_is_met_inside_a_module_with_a_rule() -> None:
    mode = FunctionRules({"relu": lambda *_: "replaced"})
    mode.depth = 1
    with mode:
        assert isinstance(F.relu(SIGNAL), torch.Tensor)


def test_the_gate_is_the_factor_that_is_spread() -> None:
    assert signal_and_gate((SIGNAL, GATE)) == (SIGNAL, GATE)
    assert signal_and_gate((GATE, SIGNAL)) == (SIGNAL, GATE)
    assert signal_and_gate((SIGNAL, 3.0)) == (SIGNAL, 3.0)
    assert signal_and_gate((3.0, SIGNAL)) == (SIGNAL, 3.0)
    assert signal_and_gate((SIGNAL, SIGNAL)) is None
    assert signal_and_gate((1.0, 2.0)) is None


def test_small_things() -> None:
    assert is_signal(SIGNAL)
    assert not is_signal(SIGNAL.detach())
    assert not is_signal(1.0)
    assert detach(1.0) == 1.0
    assert not detach(SIGNAL).requires_grad
    assert same_logits(torch.ones(2), torch.ones(2))
    assert not same_logits(torch.ones(2), torch.ones(3))
    assert not same_logits(torch.ones(2), torch.zeros(2))

"""Constants are made once; those of a trace or of inference mode are not kept."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from interp_core.backbone.constants import constant


def counted() -> tuple[list[tuple[int, int]], Any]:
    calls: list[tuple[int, int]] = []

    @constant
    def ramp(count: int, step: int = 1) -> Tensor:
        """Numbers."""
        calls.append((count, step))
        return torch.arange(count) * float(step)

    return calls, ramp


def test_a_constant_is_made_once() -> None:
    calls, ramp = counted()
    assert ramp(3) is ramp(3)
    assert calls == [(3, 1)]


def test_other_arguments_are_another_constant() -> None:
    calls, ramp = counted()
    assert ramp(3, 2).tolist() == [0, 2, 4]
    assert ramp(3, step=3).tolist() == [0, 3, 6]
    assert ramp(4).tolist() == [0, 1, 2, 3]
    assert ramp(3, 2).tolist() == [0, 2, 4]
    assert calls == [(3, 2), (3, 3), (4, 1)]


def test_it_keeps_its_name_and_words() -> None:
    _, ramp = counted()
    assert (ramp.__name__, ramp.__doc__) == ("ramp", "Numbers.")


def test_what_inference_mode_made_is_not_handed_to_training() -> None:
    calls, ramp = counted()
    with torch.inference_mode():
        assert ramp(3).is_inference()
    weight = torch.ones(3, requires_grad=True)
    (weight * ramp(3)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 1, 2]
    assert len(calls) == 2
    with torch.inference_mode():
        assert not ramp(3).is_inference()
    assert len(calls) == 2


def test_a_tensor_of_a_trace_is_not_kept() -> None:
    calls, ramp = counted()
    with FakeTensorMode():
        assert type(ramp(3)) is not Tensor
    assert type(ramp(3)) is Tensor
    assert len(calls) == 2


def test_compiled_code_makes_its_own() -> None:
    _, ramp = counted()

    def use(values: Tensor) -> Tensor:
        return values + ramp(3)

    program = torch.export.export(_Module(use), (torch.zeros(3),))
    assert program.module()(torch.ones(3)).tolist() == [1, 2, 3]
    assert ramp(3).tolist() == [0, 1, 2]
    assert type(ramp(3)) is Tensor


class _Module(torch.nn.Module):
    def __init__(self, use: Any) -> None:
        super().__init__()
        self.use = use

    def forward(self, values: Tensor) -> Tensor:
        return self.use(values)


def test_threads_agree_on_values() -> None:
    _, ramp = counted()
    results: list[list[float]] = []
    threads = [threading.Thread(target=lambda: results.append(ramp(5).tolist())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[0, 1, 2, 3, 4]] * 8

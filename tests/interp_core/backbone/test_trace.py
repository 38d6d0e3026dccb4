"""One forward pass watched: what is remembered, and that nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interp_core.backbone.trace import Trace, evaluating, noise_image

Snapshot = Callable[[nn.Module], dict[str, Any]]


class Block(nn.Module):
    """Two ways from 8 x 8 to 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.strided = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.pool = nn.AvgPool2d(2)

    def forward(self, maps: Tensor) -> Tensor:
        return self.strided(self.wide(maps)) + self.pool(maps)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 2, 2)
        self.relu = nn.ReLU()
        self.stage = nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2))
        self.block = Block()
        self.spare = nn.ReLU()
        self.fc = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.stem(images))
        return self.fc(self.relu(self.block(maps) + self.stage(maps)).mean((2, 3)))


@pytest.fixture
def watched() -> tuple[Net, Trace]:
    model = Net()
    trace = Trace(model)
    with trace.watching():
        model(torch.zeros(1, 3, 16, 16))
    return model, trace


def test_outputs_are_in_the_order_in_which_modules_ended(watched: tuple[Net, Trace]) -> None:
    names = list(watched[1].outputs)
    assert names == [
        "stem", "block.wide", "block.strided", "block.pool", "block", "stage.0", "stage.1", "stage", "relu", "fc",
    ]  # fmt: skip


def test_inputs_and_outputs_are_those_of_the_last_call(watched: tuple[Net, Trace]) -> None:
    _, trace = watched
    assert trace.inputs["relu"].shape == trace.outputs["relu"].shape == (1, 4, 4, 4)
    assert trace.inputs["block"].shape == (1, 4, 8, 8)
    assert trace.outputs["block"].shape == (1, 4, 4, 4)


def test_calls_are_counted(watched: tuple[Net, Trace]) -> None:
    _, trace = watched
    assert (trace.calls["stem"], trace.calls["relu"], trace.calls["spare"]) == (1, 2, 0)
    assert trace.is_called_once("stem")
    assert not trace.is_called_once("relu")
    assert not trace.is_called_once("spare")


def test_shrinking_names_leaves_alone(watched: tuple[Net, Trace]) -> None:
    model, trace = watched
    assert trace.shrinking_modules((16, 16)) == [("stem", (8, 8))]
    assert trace.shrinking_modules((8, 8)) == [("block.strided", (4, 4)), ("block.pool", (4, 4)), ("stage.1", (4, 4))]
    assert trace.modules["stem"] is model.stem
    assert trace.shrinking_modules((4, 4)) == []


def test_a_block_with_several_ways_is_a_step_and_a_sequence_is_not(watched: tuple[Net, Trace]) -> None:
    _, trace = watched
    inside = {name for name in trace.outputs if trace.outputs[name].ndim == 4 and trace.is_in_branch(name)}
    assert inside == {"block.wide"}


def test_the_source_of_a_tensor_is_the_outermost_module(watched: tuple[Net, Trace]) -> None:
    _, trace = watched
    assert trace.source_of(trace.outputs["stage.1"]) == "stage"
    assert trace.source_of(trace.outputs["block.wide"]) == "block.wide"
    assert trace.source_of(trace.outputs["stem"].clone()) == ""


def test_clear_forgets(watched: tuple[Net, Trace]) -> None:
    _, trace = watched
    trace.clear()
    assert not trace.outputs
    assert not trace.inputs
    assert not trace.calls
    assert trace.sizes == ()


def test_what_is_no_tensor_is_counted_and_not_kept() -> None:
    class Pair(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images, images

    model = nn.Sequential(Pair())
    trace = Trace(model)
    with trace.watching():
        model(torch.zeros(1, 3, 4, 4))
    assert trace.calls["0"] == 1
    assert not trace.outputs


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_are_gone_afterwards(fails: bool, snapshot: Snapshot) -> None:
    model = Net()
    before = snapshot(model)
    trace = Trace(model)
    if fails:
        with pytest.raises(RuntimeError), trace.watching():
            model(torch.zeros(1, 5, 16, 16))
    else:
        with trace.watching():
            assert all(module._forward_hooks for module in trace.modules.values())
    assert snapshot(model) == before


@pytest.mark.parametrize("fails", [False, True])
def test_evaluating_gives_every_module_its_own_flag_back(fails: bool, snapshot: Snapshot) -> None:
    model = Net().train()
    model.block.eval()
    before = snapshot(model)
    try:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert snapshot(model) == before


def test_evaluating_goes_through_no_module_where_none_trains() -> None:
    model = Net().eval()
    model.eval = None  # type: ignore[assignment, method-assign]
    with evaluating(model):
        assert not model.training


def test_noise_is_the_same_every_time_and_of_the_models_type() -> None:
    model, state = Net().double(), torch.get_rng_state()
    first, second = noise_image(model, 3, (8, 6)), noise_image(model, 3, (8, 6))
    assert torch.equal(first, second)
    assert (first.shape, first.dtype) == ((1, 3, 8, 6), torch.float64)
    assert first.std() > 0.5
    assert torch.equal(torch.get_rng_state(), state)
    assert noise_image(nn.ReLU(), 1, (2, 2)).dtype == torch.float32

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from baselines import Explainer, explainers
from baselines.support import fast_calls as subject
from baselines.support.fast_calls import fast_calls
from baselines.support.guard import Cost, count_passes
from interp_core.backbone import runtime

SIDE = 64


class Counted(nn.Module):
    """A small network that counts the calls of its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.log: list[int] = []  # changed in place, since an export refuses attributes that are set

    @property
    def calls(self) -> int:
        return len(self.log)

    def forward(self, images: Tensor) -> Tensor:
        self.log.append(1)
        return self.linear(self.convolution(images).relu().mean((2, 3)))


@pytest.fixture
def network() -> Counted:
    torch.manual_seed(0)
    model = Counted().eval()
    runtime.fast_network_of(model, batch())
    assert runtime.runtime_of(model, batch()).name != "network"
    model.log.clear()
    return model


def batch(count: int = 32) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def own_calls(network: Counted, images: Tensor) -> int:
    """Return how often the network's own forward ran for one call, whose logits must be right."""
    with torch.no_grad():
        expected = network.linear(network.convolution(images).relu().mean((2, 3)))
    network.log.clear()
    logits = network(images)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    return network.calls


def test_a_large_batch_without_gradient_is_taken_over(network: Counted) -> None:
    with fast_calls(network), torch.no_grad():
        assert own_calls(network, batch()) == 0
    with torch.no_grad():
        assert own_calls(network, batch()) == 1


def test_small_batches_and_passes_with_gradients_are_not(network: Counted) -> None:
    with fast_calls(network):
        assert own_calls(network, batch()) == 1
        with torch.no_grad():
            assert own_calls(network, batch(subject.LEAST_IMAGES - 1)) == 1


def test_passes_with_gradients_are_where_many_are_to_come(network: Counted) -> None:
    images = batch(2).requires_grad_()
    expected = torch.autograd.grad(network(images)[:, 1].sum(), images)[0]
    with fast_calls(network, many=True):
        assert own_calls(network, images) > 0  # the passes that make the graph
        network.log.clear()
        gradient = torch.autograd.grad(network(images)[:, 1].sum(), images)[0]
    assert network.calls == 0
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_hooks_of_the_network_run_and_count(network: Counted) -> None:
    cost = Cost(images=1)
    with torch.no_grad(), fast_calls(network), count_passes(network, cost):
        network(batch())
    assert (cost.forwards, network.calls) == (32, 0)


def test_passes_that_choose_the_engine_are_not_counted() -> None:
    torch.manual_seed(0)
    model, cost = Counted().eval(), Cost(images=1)
    with torch.no_grad(), fast_calls(model), count_passes(model, cost):
        model(batch())
    assert model.calls > 0
    assert cost.forwards == 32


def _hook(network: Counted) -> Callable[[], None]:
    return network.convolution.register_forward_hook(lambda *_: None).remove


def _pre_hook(network: Counted) -> Callable[[], None]:
    return network.convolution.register_forward_pre_hook(lambda *_: None).remove


def _other_layer(network: Counted) -> Callable[[], None]:
    layer = network.linear
    network.linear = nn.Linear(4, 2)
    return lambda: setattr(network, "linear", layer)


def _other_forward(network: Counted) -> Callable[[], None]:
    network.linear.forward = lambda x: 2 * nn.Linear.forward(network.linear, x)
    return lambda: delattr(network.linear, "forward")


def _training(network: Counted) -> Callable[[], None]:
    network.train()
    return lambda: (network.eval(), None)[1]


def _other_weights(network: Counted) -> Callable[[], None]:
    with torch.no_grad():
        network.linear.weight.mul_(3)
    return lambda: None


@pytest.mark.parametrize("change", [_hook, _pre_hook, _other_layer, _other_forward, _training])
def test_a_network_that_is_watched_or_changed_runs_itself(
    network: Counted, change: Callable[[Counted], Callable[[], None]]
) -> None:
    with fast_calls(network), torch.no_grad():
        undo = change(network)
        assert own_calls(network, batch()) == 1
        undo()
        assert own_calls(network, batch()) == 0


def test_changed_weights_get_an_engine_of_their_own(network: Counted) -> None:
    with fast_calls(network), torch.no_grad():
        before = network(batch())
        _other_weights(network)
        assert not torch.allclose(network(batch()), before, atol=1e-3)


def test_functions_that_are_watched_run(network: Counted) -> None:
    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return function(*args, **(kwargs or {}))

    with fast_calls(network), torch.no_grad(), Watch():
        assert own_calls(network, batch()) == 1


def test_a_copy_made_inside_is_a_plain_network(network: Counted) -> None:
    with fast_calls(network), torch.no_grad():
        twin = copy.deepcopy(network)
        twin.linear.weight.mul_(2)
        twin.log.clear()
        assert not torch.allclose(twin(batch()), network(batch()), atol=1e-3)
        assert twin.calls == 1


def test_everything_is_as_before_outside(network: Counted) -> None:
    before = dict(vars(network))
    with pytest.raises(RuntimeError, match="stop"), fast_calls(network):
        raise RuntimeError("stop")
    assert vars(network) == before


@pytest.mark.parametrize("name", ["rise", "lime", "shap", "occlusion", "score_cam"])
def test_maps_are_the_same_and_the_network_rests(monkeypatch: pytest.MonkeyPatch, network: Counted, name: str) -> None:
    explainer: Explainer = explainers[name]()
    if name == "rise":
        explainer = explainer.model_copy(update={"masks": 128})
    images, targets = batch(1), torch.zeros(1, dtype=torch.long)
    fast = explainer(network, images, targets, seed=3)
    fast_count = network.calls
    monkeypatch.setattr(subject, "LEAST_IMAGES", 10**9)
    network.log.clear()
    plain = explainer(network, images, targets, seed=3)
    torch.testing.assert_close(fast, plain, atol=1e-3 * float(plain.abs().max()), rtol=1e-3)
    assert fast_count < network.calls or name == "score_cam"  # four channels are a small batch

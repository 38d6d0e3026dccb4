"""DeepLIFT: the rescale rule on paper, the sum it must keep, and the networks on which it does not."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.deep_lift import DeepLift, try_on_noise
from interp_core.errors import ContractError
from interp_core.lap.attach import attach

TARGETS = torch.tensor([2, 1])


def change(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return (model(images) - model(torch.zeros_like(images)))[torch.arange(2), TARGETS]


def test_the_rescale_rule_by_hand() -> None:
    """Logit relu(x1 + 2 x2 - 3) at (2, 2): change 3 over a change of 6 before the ReLU, so half of 2 and half of 4."""
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 2)), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 2.0]).view(1, 1, 1, 2))
        net[0].bias.fill_(-3.0)  # type: ignore[union-attr]
    maps = DeepLift()(net, torch.full((1, 1, 1, 2), 2.0), torch.tensor([0]))
    torch.testing.assert_close(maps.flatten(), torch.tensor([1.0, 2.0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "lap"])
def test_sums_to_the_difference_of_the_logits(name: str, images: Tensor, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    assert DeepLift().refusal(model) is None
    assert DeepLift().caveat(model) is None
    maps = DeepLift()(model, images, TARGETS)
    torch.testing.assert_close(maps.sum((1, 2, 3)), change(model, images), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_gates_and_silu_are_refused_with_the_number(images: Tensor) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=4).eval()
    gap = try_on_noise(model)
    assert isinstance(gap, float)
    assert gap > 0.1
    with pytest.raises(ContractError, match=r"on noise its values miss the change of the logit by \d.*SiLU"):
        DeepLift()(model, images, TARGETS)


class Doubling(nn.Module):
    """Logits of relu(x) and of relu(relu(x) - 1), both by one module."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.conv, self.act, self.twice = nn.Conv2d(3, 4, 3), nn.ReLU(), twice
        self.other = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x)) - 0.1
        return self.act(x) if self.twice else self.other(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)))

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def test_a_module_that_is_used_twice_is_refused(images: Tensor) -> None:
    assert DeepLift().refusal(Doubling(twice=False)) is None
    with pytest.raises(ContractError, match="called more than once: act"):
        DeepLift()(Doubling(twice=True), images, TARGETS)


class Functional(Doubling):
    """Its nonlinearity is a function, for which there is no rule."""

    def forward_features(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + 0.3)


def test_functional_calls_are_found_by_what_they_miss() -> None:
    torch.manual_seed(0)
    reason = DeepLift().refusal(Functional(twice=False)) or DeepLift().caveat(Functional(twice=False))
    assert reason is not None
    assert "no rule for products, gates and functional calls" in reason


@pytest.mark.slow
def test_lap_that_attends_is_measured(attentive: nn.Module, images: Tensor) -> None:
    gap = try_on_noise(attentive)
    assert isinstance(gap, float)
    assert gap > 0.01
    reason = DeepLift().refusal(attentive) or DeepLift().caveat(attentive)
    assert reason is not None
    assert f"miss the change of the logit by {gap:.1%}; it has no rule for the gates of LAP" in reason


def test_what_cannot_be_tried_is_flagged() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    assert DeepLift().refusal(model) is None
    assert "was not tried" in str(DeepLift().caveat(model))


@pytest.mark.slow
def test_no_tensor_stays_on_the_modules_when_the_network_fails(plain: nn.Module, images: Tensor) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no answer")

    DeepLift().refusal(plain)
    before = [set(vars(module)) for module in plain.modules()]
    plain.get_submodule("layer2").register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no answer"):
        DeepLift().explain(plain, images, TARGETS)
    assert [set(vars(module)) for module in plain.modules()] == before


@pytest.mark.slow
def test_weights_that_change_are_measured_again(plain: nn.Module) -> None:
    lap = attach(plain)
    assert DeepLift().caveat(lap) is None
    with torch.no_grad():
        for block in (*lap.gates, lap.head):
            block.a.fill_(20.0)  # type: ignore[union-attr, operator]
    assert (DeepLift().refusal(lap) or DeepLift().caveat(lap)) is not None

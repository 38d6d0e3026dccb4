"""LRP: its rules on paper, the relevance it must keep, the norms it merges and the networks it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.lrp import Lrp, plan_relevance
from baselines.support.norms import find_norms_after, merge_norms
from baselines.support.relevance import propagate_relevance
from interp_core.backbone.trace import Trace
from interp_core.errors import ContractError

TARGETS = torch.tensor([2, 1])


def frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def shared(inputs: Tensor, weight: Tensor, given: Tensor) -> Tensor:
    """R_i = sum_j R_j a_i w_ji / sum_i a_i w_ji for inputs (N, I), weights (O, I) and relevance (N, O)."""
    parts = inputs[:, None] * weight
    sums = parts.sum(2, keepdim=True)
    return (parts / torch.where(sums == 0, 1.0, sums) * given[..., None]).sum(1)


def test_the_rules_by_hand() -> None:
    """1x1 convolutions on one pixel are dense layers: flat, z+, then epsilon with its bias."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    x = torch.randn(2, 3, 1, 1)
    a = net[:2](x).flatten(1)
    b = net[:4](x).flatten(1)
    head = net[5].weight[TARGETS] * b
    middle = shared(a, net[2].weight.flatten(1).clamp(min=0), head)
    expected = shared(torch.ones(2, 3), torch.ones(5, 3), middle)
    values, logits, unruled = propagate_relevance(frozen(net), x, TARGETS)
    torch.testing.assert_close(values.flatten(1), expected.detach(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(logits, net(x))
    assert unruled == set()


@pytest.mark.slow
def test_on_a_linear_head_the_map_sums_to_the_logit_without_bias(any_network: nn.Module, images: Tensor) -> None:
    maps = Lrp()(any_network, images, TARGETS)
    head = any_network.get_classifier()  # type: ignore[operator]
    expected = any_network(images)[torch.arange(2), TARGETS] - head.bias[TARGETS]
    torch.testing.assert_close(maps.sum((1, 2, 3)), expected.detach(), rtol=0.01, atol=1e-4)
    assert Lrp().caveat(any_network) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10t", "densenet121", "test_efficientnet", "regnety_002"])
def test_relevance_is_kept_on_timm_families(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4, pretrained_cfg_overlay={"input_size": (3, 64, 64)}).eval()
    plan = plan_relevance(model)
    assert plan.reason is None
    assert plan.lost < 0.05
    assert (Lrp().caveat(model) is None) == (plan.lost <= 0.01)


@pytest.mark.slow
def test_evidence_against_the_target_is_negative(plain: nn.Module, images: Tensor) -> None:
    logits = plain(images)[0] - plain.get_classifier().bias  # type: ignore[operator]
    against = logits.argmin()[None]
    assert logits[against] < 0
    assert Lrp()(plain, images[:1], against).sum() < 0


def test_a_shortcut_gets_its_share_and_no_more() -> None:
    class Shortcut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = 3 * x
            y += x
            return y.mean((2, 3))

    x = torch.rand(1, 2, 3, 3) + 0.1
    values, _, unruled = propagate_relevance(Shortcut(), x, torch.tensor([1]))
    torch.testing.assert_close(values[0, 1], x[0, 1] * 4 / 9)
    assert unruled == set()


def test_an_average_shares_in_proportion_and_a_gate_takes_nothing() -> None:
    class Gated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            gate = torch.sigmoid(x.mean(1, keepdim=True))
            return F.adaptive_avg_pool2d(x * gate, 1).flatten(1)

    x = torch.rand(1, 2, 2, 2) + 0.1
    values, logits, unruled = propagate_relevance(Gated(), x, torch.tensor([0]))
    expected = x[0, 0] * torch.sigmoid(x.mean(1))[0] / 4
    torch.testing.assert_close(values[0, 0], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(values.sum(), logits[0, 0], rtol=1e-4, atol=1e-6)
    assert unruled == set()


def test_functions_without_a_rule_are_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cos(x).mean((2, 3))

    assert propagate_relevance(Odd(), torch.rand(1, 2, 3, 3), torch.tensor([0]))[2] == {"cos"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "why"), [("test_convnext", "no rule for .*layer_norm"), ("test_nfnet", "no rule for .*conv2d")]
)
def test_networks_with_a_step_without_a_rule_are_refused(name: str, why: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4).eval()
    with pytest.raises(ContractError, match=f"lrp cannot explain this model: {why}"):
        Lrp()(model, images, TARGETS)


def test_a_network_of_unknown_size_is_refused() -> None:
    assert "image size is not known" in str(Lrp().refusal(nn.Sequential(nn.Flatten(), nn.Linear(48, 4))))


def test_a_convolution_that_is_used_twice_is_refused(gap_net: Any) -> None:
    gap_net.stem[0] = nn.Conv2d(3, 3, 2, padding=1)
    gap_net.stem = nn.Sequential(gap_net.stem[0], gap_net.stem[0], nn.Conv2d(3, 6, 2, stride=2))
    assert "called more than once: stem.0" in str(Lrp().refusal(gap_net))


@pytest.mark.slow
def test_norms_are_merged_where_they_follow_a_convolution(plain: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                module.bias.normal_()
    trace = Trace(frozen(plain))
    with trace.watching():
        expected = plain(images)
    pairs = find_norms_after(trace)
    norms = [name for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert sorted(norm for _, norm in pairs) == sorted(norms)
    merge_norms(plain, pairs)
    torch.testing.assert_close(plain(images), expected, rtol=1e-4, atol=1e-4)
    assert all(plain.get_submodule(norm).weight is None for norm in norms)


def test_a_norm_before_its_convolution_is_left_alone() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    trace = Trace(frozen(net))
    with trace.watching():
        net(torch.randn(1, 3, 4, 4))
    assert find_norms_after(trace) == ()


@pytest.mark.slow
def test_the_network_itself_is_not_touched(plain: nn.Module, images: Tensor) -> None:
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    Lrp()(plain, images, TARGETS)
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in plain.modules())

"""Gradients through the blocks: what features learn in training mode, and what they do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.learners import TinyNet, make_tiny, squares
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.knowledge import observe
from interp_core.lap.blocks import GateBlock, HeadBlock
from interp_core.lap.pooling import apply_gate


def random_maps(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_gate() -> tuple[GateBlock, Callable[[Tensor], Tensor]]:
    torch.manual_seed(0)
    block = GateBlock("level", 3, 2).double()
    nn.init.constant_(block.a, 2.0)
    return block, block


def make_head(*, classes: int = 4) -> tuple[HeadBlock, Callable[[Tensor], Tensor]]:
    torch.manual_seed(0)
    block, weight = HeadBlock(3, classes, linear_head=True).double(), torch.randn(classes, 3, dtype=torch.float64)
    nn.init.constant_(block.a, 2.0)
    nn.init.normal_(block.scorer.expand.weight)
    return block, lambda features: block(features, weight)


def gradient_of(call: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """Gradient of the sum of squares of the gated features."""
    features = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(call(features).square().sum(), features)
    return gradient


def test_a_gate_on_paper() -> None:
    # Y = (0.5, 4.5). d(Y^2)/dY = (1, 9) is the gradient of average pooling; attention multiplies it by the gate.
    features, gate = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.5, 1.5]]]])
    assert gradient_of(lambda x: apply_gate(x, gate), features).flatten().tolist() == [0.5, 13.5]
    even = gradient_of(lambda x: apply_gate(x, gate, attention_gradient=False), features)
    assert even.flatten().tolist() == [1.0, 9.0]


def test_the_gate_learns_the_same_by_either_rule() -> None:
    features, gate = random_maps(3, 4, 4), random_maps(1, 4, 4, seed=1).requires_grad_()
    values, gradients = [], []
    for rule in (True, False):
        gated = apply_gate(features, gate, attention_gradient=rule)
        values.append(gated.detach())
        gradients.append(torch.autograd.grad(gated.square().sum(), gate)[0])
    assert torch.equal(*values)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("make", [make_gate, make_head])
def test_features_learn_in_training_as_under_average_pooling(
    make: Callable[[], tuple[GateBlock | HeadBlock, Callable[[Tensor], Tensor]]],
) -> None:
    block, call = make()
    features = random_maps(3, 4, 4)
    block.train()
    torch.testing.assert_close(gradient_of(call, features), 2 * call(features).detach())
    block.eval()
    exact = gradient_of(call, features)
    step = 1e-6 * random_maps(3, 4, 4, seed=2)
    change = (call(features + step).square().sum() - call(features - step).square().sum()) / 2
    torch.testing.assert_close((exact * step).sum(), change, rtol=1e-5, atol=0)
    block.train()
    block.attention_gradient = True
    assert torch.equal(gradient_of(call, features), exact)


@pytest.mark.parametrize("make", [make_gate, make_head])
def test_attention_learns_the_same_by_either_rule(
    make: Callable[[], tuple[GateBlock | HeadBlock, Callable[[Tensor], Tensor]]],
) -> None:
    block, call = make()
    features, gradients = random_maps(3, 4, 4), []
    for rule in (True, False):
        block.attention_gradient = rule
        block.zero_grad()
        call(features).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in block.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(block.parameters()))
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("make", [make_gate, make_head])
def test_without_attention_a_block_in_training_is_the_identity_with_the_gradient_of_one(
    make: Callable[[], tuple[GateBlock | HeadBlock, Callable[[Tensor], Tensor]]],
) -> None:
    block, call = make()
    nn.init.zeros_(block.a)
    features = random_maps(3, 4, 4)
    assert torch.equal(call(features), features)
    assert torch.equal(gradient_of(call, features), 2 * features)


def lap_of(net: nn.Module) -> LapModel:
    model = interp_core.attach(net, finest=2)
    for block in (*model.gates, model.head):
        nn.init.constant_(block.a, 2.0)
    return model.train()


@pytest.mark.parametrize("classes", [3, 80])  # beyond 64 classes maps are computed from the record
def test_maps_of_classes_do_not_teach_features_but_activations_and_concepts_below_do(classes: int) -> None:
    torch.manual_seed(0)
    net = TinyNet()
    net.fc = nn.Linear(16, classes)
    model, (images, targets) = lap_of(net), squares(6)
    view, stem = observe(model, images, targets), model.backbone.get_submodule("stem.0").weight
    view.maps.sum().backward(retain_graph=True)
    assert all(p.grad is None or not p.grad.any() for p in model.backbone.parameters())
    assert model.head.scorer.reduce.weight.grad is not None
    for maps in (view.activations.clamp(min=0), *view.below.values()):
        model.zero_grad()
        maps.sum().backward(retain_graph=True)
        assert stem.grad is not None
        assert stem.grad.any()


def test_the_rule_is_no_part_of_saved_weights() -> None:
    model = make_tiny(lap=True)
    assert not any("attention_gradient" in key for key in model.state_dict())
    assert not any("attention_gradient" in vars(block) for block in (*model.gates, model.head))  # type: ignore[misc]

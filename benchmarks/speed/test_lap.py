"""What LAP costs: forward pass, explanation and training step against the plain twin's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed.conftest import Compare
from benchmarks.speed.nets import MEMORY_FORMATS, NETS, Net, Twins, twins
from benchmarks.speed.ratios import Work
from interp_core.training import DEFAULT_TERMS, Recipe, step_losses

FORWARD_ASKED, EXPLAIN_ASKED, TRAIN_ASKED = 1.05, 1.10, 1.15
PAIRS = 25
TRAIN_PAIRS = 15

pytestmark = [
    pytest.mark.parametrize("memory_format", MEMORY_FORMATS),
    pytest.mark.parametrize("net", NETS, ids=lambda net: net.name),
]


@pytest.fixture
def pair(net: Net, memory_format: str, device: str, quick: bool) -> Twins:
    return twins(net, memory_format, device, images=net.batch, size=net.size(quick))


def test_forward(compare: Compare, net: Net, memory_format: str, pair: Twins) -> None:
    sides = (lambda: pair.plain(pair.images), lambda: pair.lap(pair.images))
    with torch.no_grad():
        compare(
            net, memory_format, ("forward", "plain forward"), net.batch, sides, pairs=PAIRS, asked=FORWARD_ASKED
        )


def test_explain(compare: Compare, net: Net, memory_format: str, pair: Twins) -> None:
    sides = (lambda: pair.plain(pair.images), lambda: pair.lap.explain(pair.images, pair.targets))
    with torch.no_grad():
        compare(
            net, memory_format, ("explain", "plain forward"), net.batch, sides, pairs=PAIRS, asked=EXPLAIN_ASKED
        )


def test_train(compare: Compare, net: Net, memory_format: str, pair: Twins) -> None:
    sides = (_step(pair.plain, pair.images, pair.targets), _step(pair.lap, pair.images, pair.targets))
    compare(
        net,
        memory_format,
        ("training step", "plain training step"),
        net.batch,
        sides,
        pairs=TRAIN_PAIRS,
        asked=TRAIN_ASKED,
    )


def _step(model: nn.Module, images: Tensor, targets: Tensor) -> Work:
    """One step as `fit` takes it, on a batch that is there already."""
    model.train()
    recipe = Recipe()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

    def step() -> None:
        losses = step_losses(model, images, targets, DEFAULT_TERMS)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return step

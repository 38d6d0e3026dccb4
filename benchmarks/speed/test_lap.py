"""What LAP costs: forward pass, explanation and training step against the plain twin's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed.compare import Compare
from benchmarks.speed.nets import MEMORY_FORMATS, NETS, Net, Twins, counts, twins
from benchmarks.speed.ratios import Case, Work
from interp_core.training import DEFAULT_TERMS, Recipe, step_losses

ASKED = {"forward": 1.05, "explain": 1.10, "training step": 1.15}
PAIRS = {"forward": 20, "explain": 20, "training step": 15}

pytestmark = [
    pytest.mark.parametrize("memory_format", MEMORY_FORMATS),
    pytest.mark.parametrize("net", NETS, ids=lambda net: net.name),
]


@pytest.fixture
def pair(net: Net, memory_format: str, device: str, quick: bool) -> Twins:
    return twins(net, memory_format, device, images=net.batch, size=net.size(quick))


def test_forward(compare: Compare, net: Net, memory_format: str, pair: Twins) -> None:
    with torch.no_grad():
        compare(
            _case(net, memory_format, pair, "forward", "plain forward"),
            lambda: pair.plain(pair.images),
            lambda: pair.lap(pair.images),
        )


def test_explain(compare: Compare, net: Net, memory_format: str, pair: Twins) -> None:
    with torch.no_grad():
        compare(
            _case(net, memory_format, pair, "explain", "plain forward"),
            lambda: pair.plain(pair.images),
            lambda: pair.lap.explain(pair.images, pair.targets),
        )


def test_train(compare: Compare, net: Net, memory_format: str, pair: Twins) -> None:
    compare(
        _case(net, memory_format, pair, "training step", "plain training step"),
        _step(pair.plain, pair.images, pair.targets),
        _step(pair.lap, pair.images, pair.targets),
    )


def _case(net: Net, memory_format: str, pair: Twins, what: str, reference: str) -> Case:
    return Case(
        net=net.name,
        image_size=pair.images.shape[-1],
        images=len(pair.images),
        memory_format=memory_format,
        what=what,
        reference=reference,
        asked=ASKED[what] if counts(memory_format) else None,
        pairs=PAIRS[what],
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

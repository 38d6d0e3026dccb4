"""Time forward pass, explanation and training step of LAP against those of the plain twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed.networks import MEMORY_FORMATS, NETS, Net, Twins, is_default_format, twins
from benchmarks.speed.pairs import Case, PairTimer, Work
from interp_core.knowledge import Forbid, Region, Term
from interp_core.training import DEFAULT_TERMS, Recipe, step_losses

REGION_TERMS = {"training step, Forbid": Forbid(region="mask"), "training step, Region": Region(region="mask")}
REFINED = "explain, refined too"
LIMITS = {"forward": 1.05, "explain": 1.05, "training step": 1.15, **dict.fromkeys(REGION_TERMS, 1.15)}
PAIRS = {"forward": 20, "explain": 20, REFINED: 20, "training step": 15, **dict.fromkeys(REGION_TERMS, 15)}

pytestmark = [
    pytest.mark.parametrize("memory_format", MEMORY_FORMATS),
    pytest.mark.parametrize("net", NETS, ids=lambda net: net.name),
]


@pytest.fixture
def pair(net: Net, memory_format: str, device: str, quick: bool) -> Twins:
    return twins(net, memory_format, device, images=net.batch, size=net.size(quick))


def test_forward(compare: PairTimer, net: Net, memory_format: str, pair: Twins) -> None:
    with torch.no_grad():
        compare(
            _case(net, memory_format, pair, "forward", "plain forward"),
            lambda: pair.plain(pair.images),
            lambda: pair.lap(pair.images),
        )


def test_explain(compare: PairTimer, net: Net, memory_format: str, pair: Twins) -> None:
    with torch.no_grad():
        compare(
            _case(net, memory_format, pair, "explain", "plain forward"),
            lambda: pair.plain(pair.images),
            lambda: pair.lap.explain(pair.images, pair.targets),
        )


def test_explain_refined(compare: PairTimer, net: Net, memory_format: str, device: str, quick: bool) -> None:
    """Time both maps, the network's own and that of the decoders."""
    pair = twins(net, memory_format, device, images=net.batch, size=net.size(quick), refine=True)
    with torch.no_grad():
        compare(
            _case(net, memory_format, pair, REFINED, "plain forward"),
            lambda: pair.plain(pair.images),
            lambda: pair.lap.explain(pair.images, pair.targets),
        )


def test_train(compare: PairTimer, net: Net, memory_format: str, pair: Twins) -> None:
    compare(
        _case(net, memory_format, pair, "training step", "plain training step"),
        _step(pair.plain, pair),
        _step(pair.lap, pair, DEFAULT_TERMS),
    )


@pytest.mark.parametrize("what", REGION_TERMS)
def test_train_told(compare: PairTimer, net: Net, memory_format: str, pair: Twins, what: str) -> None:
    """Give every image a mask of its upper left quarter."""
    mask = torch.zeros_like(pair.images[:, :1])
    mask[..., : mask.shape[-2] // 2, : mask.shape[-1] // 2] = 1
    compare(
        _case(net, memory_format, pair, what, "plain training step"),
        _step(pair.plain, pair),
        _step(pair.lap, pair, [REGION_TERMS[what]], {"mask": mask}),
    )


def _case(net: Net, memory_format: str, pair: Twins, what: str, reference: str) -> Case:
    return Case(
        net=net.name,
        image_size=pair.images.shape[-1],
        images=len(pair.images),
        memory_format=memory_format,
        what=what,
        reference=reference,
        asked=LIMITS.get(what) if is_default_format(memory_format) else None,
        pairs=PAIRS[what],
    )


def _step(
    model: nn.Module, pair: Twins, terms: Sequence[Term] = (), regions: Mapping[str, Tensor] | None = None
) -> Work:
    """Return one training step as `fit` takes it, on a batch in memory."""
    model.train()
    recipe = Recipe()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

    def step() -> None:
        losses = step_losses(model, pair.images, pair.targets, terms, regions=regions)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return step

"""Carrying contributions down: sums are kept on any grid, and a network solved on paper is explained right."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.explanation import (
    evidence_map,
    first_order,
    head_contributions,
    head_maps,
    overlap,
    propagate,
    regrid,
)
from interp_core.pooling import attention

GRIDS = [(1, 1), (1, 5), (5, 1), (2, 3), (3, 2), (7, 7), (12, 13), (13, 12), (4, 12)]


def random_maps(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_overlap(source: int, target: int) -> list[list[float]]:
    """Shares counted on a grid that both grids divide."""
    common = math.lcm(source, target)
    matrix = [[0.0] * source for _ in range(target)]
    for step in range(common):
        matrix[step * target // common][step * source // common] += source / common
    return matrix


@pytest.mark.parametrize(("source", "target"), GRIDS)
def test_overlap_agrees_with_counting_and_keeps_every_cell_whole(source: int, target: int) -> None:
    matrix = overlap(source, target)
    assert matrix.shape == (target, source)
    torch.testing.assert_close(matrix, torch.tensor(slow_overlap(source, target)).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix.sum(0), torch.ones(source, dtype=torch.float64), rtol=0, atol=1e-12)


def test_two_cells_on_three() -> None:
    expected = torch.tensor([[2 / 3, 0], [1 / 3, 1 / 3], [0, 2 / 3]], dtype=torch.float64)
    torch.testing.assert_close(overlap(2, 3), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("before", [(2, 2), (3, 5), (1, 1), (7, 4)])
@pytest.mark.parametrize("after", [(2, 2), (5, 3), (1, 1), (13, 9)])
def test_regrid_keeps_the_sum(before: tuple[int, int], after: tuple[int, int]) -> None:
    maps = random_maps(*before)
    there = regrid(maps, *after)
    assert there.shape == (2, 1, *after)
    torch.testing.assert_close(there.sum((1, 2, 3)), maps.sum((1, 2, 3)), rtol=0, atol=1e-12)


def test_regrid_to_its_own_grid_is_the_map_itself() -> None:
    maps = random_maps(3, 4)
    assert regrid(maps, 3, 4) is maps


@pytest.mark.parametrize(("height", "width", "window"), [(4, 4, 2), (5, 7, 2), (13, 9, 4), (1, 3, 2), (7, 7, 7)])
@pytest.mark.parametrize("above", ["ceil", "floor", "odd"])
def test_propagate_keeps_the_sum(height: int, width: int, window: int, above: str) -> None:
    shape = {
        "ceil": (-(-height // window), -(-width // window)),
        "floor": (max(1, height // window), max(1, width // window)),
        "odd": (3, 5),
    }[above]
    relevance = random_maps(*shape)
    weights = attention(random_maps(height, width, seed=1).sigmoid(), 2.0, window)
    below = propagate(relevance, weights, window)
    assert below.shape == (2, 1, height, width)
    torch.testing.assert_close(below.sum((1, 2, 3)), relevance.sum((1, 2, 3)), rtol=0, atol=1e-12)


def test_propagate_on_paper() -> None:
    relevance = torch.tensor([[[[10.0, -4.0]]]])
    weights = torch.tensor([[[[0.1, 0.2, 0.5, 0.0], [0.3, 0.4, 0.25, 0.25]]]])
    expected = torch.tensor([[[[1.0, 2.0, -2.0, 0.0], [3.0, 4.0, -1.0, -1.0]]]])
    torch.testing.assert_close(propagate(relevance, weights, 2), expected)


def test_head_contributions_on_paper() -> None:
    evidence, gate = torch.tensor([[[[1.0, -2.0], [3.0, 4.0]]]]), torch.tensor([[[[0.0, 2.0], [1.0, 1.0]]]])
    expected = torch.tensor([[[[0.0, -1.0], [0.75, 1.0]]]])
    torch.testing.assert_close(head_contributions(evidence, gate), expected)


def test_the_first_order_of_a_linear_head_is_the_whole() -> None:
    torch.manual_seed(0)
    fc, features = nn.Linear(5, 3).double(), torch.randn(2, 5, 3, 4, dtype=torch.float64)
    gate = 12 * attention(torch.rand(2, 1, 3, 4, dtype=torch.float64), 2.0, None)
    targets = torch.tensor([2, 0])
    _, _, maps = first_order(features * gate, lambda x: fc(x.mean((2, 3))), lambda _: targets)
    evidence = torch.einsum("nc,nchw->nhw", fc.weight[targets], features)[:, None]
    torch.testing.assert_close(maps, head_contributions(evidence, gate), rtol=0, atol=1e-12)
    assert fc.weight.grad is None


def test_the_first_order_of_a_square_is_twice_the_logit() -> None:
    features = torch.tensor([[[[1.0, 3.0]]]])
    # logit = mean^2 = 4; d logit / d x = 2 * mean / 2 = 2, so the contributions are 2 and 6.
    with torch.no_grad():
        logits, chosen, maps = first_order(features, lambda x: x.mean((2, 3)).square(), lambda x: x.argmax(1))
    assert (logits.tolist(), chosen.tolist()) == ([[4.0]], [0])
    assert not logits.requires_grad
    assert maps.tolist() == [[[[2.0, 6.0]]]]


def test_both_ways_agree_on_a_real_network(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    lap = make_lap().double()
    explanation = lap.explain(images.double(), 1)
    captured: list[Tensor] = []
    handle = lap.head.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
    with torch.no_grad():
        lap(images.double())
    handle.remove()
    targets = torch.tensor([1, 1])
    _, _, maps = first_order(captured[0], lap.backbone.forward_head, lambda _: targets)  # type: ignore[arg-type]
    torch.testing.assert_close(maps, explanation.levels[-1].contributions, rtol=0, atol=1e-10)


def test_the_map_is_concept_times_positive_contribution() -> None:
    scores, contributions = torch.tensor([[[[0.5, 0.25]]]]), torch.tensor([[[[4.0, -8.0]]]])
    found = evidence_map(head_maps(scores.double(), scores, contributions.double()))
    assert found.tolist() == [[[[2.0, 0.0]]]]
    assert found.dtype == torch.float32


CELLS = [(0, 0), (3, 5), (7, 7)]


def one_cell(protocol_net: type[Any], cell: tuple[int, int]) -> tuple[nn.Module, Tensor]:
    """The logit of class 1 is 16 times the mean red of the image, and only one cell of 4 x 4 pixels is red."""
    model = protocol_net().double().eval()
    nn.init.zeros_(model.stem.weight)
    nn.init.zeros_(model.stem.bias)
    with torch.no_grad():
        model.stem.weight[0, 0] = 1 / 16
        model.stem.weight[1, 1] = 1 / 16
        model.fc.weight.copy_(torch.tensor([[0.0, 16.0], [16.0, 0.0]]))
        model.fc.bias.copy_(torch.tensor([0.5, -0.25]))
    image = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    image[0, 0, 4 * cell[0] : 4 * cell[0] + 4, 4 * cell[1] : 4 * cell[1] + 4] = 8.0
    return model, image


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("a", [0.0, 2.0])
def test_a_logit_that_depends_on_one_cell_is_explained_by_it(
    cell: tuple[int, int], a: float, protocol_net: type[Any]
) -> None:
    model, image = one_cell(protocol_net, cell)
    lap = interp_core.attach(model)
    nn.init.constant_(lap.head.a, a)
    explanation = lap.explain(image, 1)
    contributions = explanation.levels[-1].contributions[0, 0]
    elsewhere = torch.ones(8, 8, dtype=torch.bool)
    elsewhere[cell] = False
    assert (contributions[elsewhere] == 0).all()
    torch.testing.assert_close(contributions[cell], explanation.logits[0, 1] + 0.25)
    torch.testing.assert_close(explanation.bias, torch.tensor([-0.25], dtype=torch.float64))
    if a == 0:
        # The cell's red is 8 in one position of 64: 16 * 8 / 64.
        assert contributions[cell].item() == pytest.approx(2.0)
    peak = divmod(explanation.map[0, 0].argmax().item(), 32)
    assert (peak[0] // 4, peak[1] // 4) == cell
    assert explanation.concept[0, 0].argmax().item() == 8 * cell[0] + cell[1]


def test_the_attention_of_one_cell_on_paper(protocol_net: type[Any]) -> None:
    model, image = one_cell(protocol_net, (3, 5))
    lap = interp_core.attach(model)
    nn.init.constant_(lap.head.a, 2.0)
    # One value among 64 standardises to sqrt(63), the others to -1 / sqrt(63); g = 1.5, c = -2, a^2 = 4. Class 0
    # sees a flat map, sigmoid(-2), which is above class 1's at the other positions.
    high, low = 1 / (1 + math.exp(2 - 1.5 * math.sqrt(63))), 1 / (1 + math.exp(2))
    weight = 1 / (1 + 63 * math.exp(-4 * (high - low) ** 2))
    head = lap.explain(image, 1).levels[-1]
    assert head.scores[0, 0, 3, 5].item() == pytest.approx(high, abs=1e-6)
    assert head.attention[0, 0, 3, 5].item() == pytest.approx(weight, abs=1e-6)
    assert head.contributions[0, 0, 3, 5].item() == pytest.approx(128 * weight, rel=1e-6)


def test_a_class_that_nothing_speaks_for_has_an_empty_map(protocol_net: type[Any]) -> None:
    model, image = one_cell(protocol_net, (3, 5))
    explanation = interp_core.attach(model).explain(image, 0)
    assert (explanation.map == 0).all()
    assert (explanation.contributions == 0).all()

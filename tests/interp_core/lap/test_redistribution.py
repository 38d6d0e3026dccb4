"""Redistribution: sums are kept on every grid, no window passes its reach, and attached networks keep their logits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
from helpers.nets import Pooled
from torch import Tensor, nn

import interp_core
from interp_core import Explanation, LapModel
from interp_core.backbone.geometry import CellGrid
from interp_core.lap.redistribution import (
    DETAIL,
    MAX_SCORE,
    REACH,
    FinerLevel,
    Redistribution,
    detail,
    levels_below,
    move,
    to_pixels,
    window_matrix,
)

MakeLap = Callable[..., LapModel]
Images = Callable[..., Tensor]
TOLERANCES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
REACHES = [1.0, 1.5, 2.0, 3.25]


@dataclass(frozen=True)
class Axis:
    """Cells of two grids along one axis."""

    children: int
    parents: int
    first: float
    pitch: float


def random_axis(generator: torch.Generator) -> Axis:
    """Draw strides, offsets and sizes, among them parents outside the children and grids that do not divide."""

    def draw(*choices: float) -> float:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    parents, pitch = int(draw(1, 2, 3, 5, 7, 10)), draw(0.75, 1, 1.5, 2, 3, 4, 7)
    children = max(1, round(parents * pitch + draw(-3, -1, 0, 1, 4)))
    return Axis(children, parents, draw(-4, -0.5, 0, 0.5, 1, (pitch - 1) / 2, 6.25), pitch)


def random_grids(axes: Sequence[Axis], generator: torch.Generator) -> tuple[CellGrid, CellGrid]:
    """Place the children anywhere on the image, and the parents relative to them."""
    first, pitch = (10 * torch.randn(2, generator=generator)).tolist(), [1.0, 8.0]
    offsets = [start + axis.first * step for start, step, axis in zip(first, pitch, axes, strict=True)]
    pitches = [step * axis.pitch for step, axis in zip(pitch, axes, strict=True)]
    return CellGrid((first[0], first[1]), (pitch[0], pitch[1])), CellGrid(
        (offsets[0], offsets[1]), (pitches[0], pitches[1])
    )


def sums_of(maps: Tensor) -> Tensor:
    return maps.double().sum((1, 2, 3))


def assert_same_sum(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Compare sums, relative to the sum of absolute values."""
    scale = theirs.double().abs().sum((1, 2, 3))
    assert ((sums_of(ours) - sums_of(theirs)).abs() <= tolerance * scale).all()


# One move


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["single", "double"])
@pytest.mark.parametrize("seed", range(30))
def test_a_move_keeps_the_sum(seed: int, dtype: torch.dtype, tolerance: float) -> None:
    """Over random grids, strides for each axis, offsets, sizes, reaches, weights and signed contributions."""
    generator = torch.Generator().manual_seed(seed)
    axes = random_axis(generator), random_axis(generator)
    grid, parents = random_grids(axes, generator)
    contributions = torch.randn(3, 1, axes[0].parents, axes[1].parents, generator=generator, dtype=dtype)
    scores = 3 * torch.randn(3, 1, axes[0].children, axes[1].children, generator=generator, dtype=dtype)
    for reach in REACHES:
        moved = move(contributions, scores.exp(), grid, parents, reach)
        assert moved.shape == scores.shape
        assert moved.dtype == dtype
        assert_same_sum(moved, contributions, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["single", "double"])
@pytest.mark.parametrize("seed", range(10))
def test_a_chain_of_moves_to_the_pixels_keeps_the_sum(seed: int, dtype: torch.dtype, tolerance: float) -> None:
    """Single precision where the pixels are reached, whatever the type of the contributions."""
    generator = torch.Generator().manual_seed(seed)
    grids = [CellGrid((15.5, 7.0), (32.0, 16.0)), CellGrid((0.0, 3.5), (16.0, 8.0)), CellGrid((3.5, 1.0), (8.0, 2.0))]
    contributions = torch.randn(2, 1, 3, 7, generator=generator, dtype=dtype)
    maps = contributions
    for grid, parents, size in zip(grids[1:], grids, [(6, 13), (12, 55)], strict=False):
        maps = move(maps, torch.randn(2, 1, *size, generator=generator, dtype=dtype).exp(), grid, parents)
        assert_same_sum(maps, contributions, tolerance)
    pixels = to_pixels(maps, grids[-1], torch.randn(2, 3, 97, 112, generator=generator))
    assert pixels.shape == (2, 1, 97, 112)
    assert pixels.dtype == torch.float32
    assert_same_sum(pixels, contributions, 1e-5)


def test_two_parents_and_four_children_on_paper() -> None:
    # Windows of both parents: 3/4, 3/4, 1/4, 0 and its mirror image. Weights 1, 1, 2, 1 give totals of 2 and 5/2, so a
    # parent hands 4 / 2 = 2 and -5 / (5/2) = -2 to each unit of window times weight.
    contributions, weights = torch.tensor([[[[4.0, -5.0]]]]), torch.tensor([[[[1.0, 1.0, 2.0, 1.0]]]])
    parents = CellGrid((0.0, 0.5), (1.0, 2.0))
    moved = move(contributions, weights, CellGrid(), parents, reach=1.0)
    assert moved.tolist() == [[[[1.5, 1.0, -2.0, -1.5]]]]


def test_a_window_ends_at_its_reach() -> None:
    """However strongly a child outside draws."""
    generator = torch.Generator().manual_seed(0)
    grid, parents = CellGrid((1.5, 0.0), (4.0, 2.0)), CellGrid((5.5, 4.0), (8.0, 8.0))
    rows, columns = (grid.first[i] + grid.pitch[i] * torch.arange(24) for i in (0, 1))
    weights = (4 * torch.randn(1, 1, 24, 24, generator=generator)).exp()
    for reach in REACHES:
        for row, column in ((0, 0), (3, 2), (11, 5)):
            contributions = torch.zeros(1, 1, 12, 6)
            contributions[0, 0, row, column] = 1.0
            down = (rows - parents.first[0] - parents.pitch[0] * row).abs() / parents.pitch[0]
            across = (columns - parents.first[1] - parents.pitch[1] * column).abs() / parents.pitch[1]
            inside = (down < reach)[:, None] & (across < reach)
            moved = move(contributions, weights, grid, parents, reach)[0, 0]
            assert bool((moved[~inside] == 0).all())
            assert bool((moved[inside] > 0).all())


@pytest.mark.parametrize("reach", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("pitch", [(2, 2), (4, 1), (3, 8)])
def test_flat_evidence_stays_flat_inside(pitch: tuple[int, int], reach: float) -> None:
    rows, columns = 16 * pitch[0], 15 * pitch[1]
    parents = CellGrid.tiling((float(pitch[0]), float(pitch[1])))
    moved = move(torch.full((1, 1, 16, 15), 3.0), torch.ones(1, 1, rows, columns), CellGrid(), parents, reach)
    margins = [round(2 * reach * side) for side in pitch]
    inside = moved[..., margins[0] : rows - margins[0], margins[1] : columns - margins[1]]
    assert inside.numel() > 0
    torch.testing.assert_close(inside, torch.full_like(inside, 3.0 / (pitch[0] * pitch[1])))


def test_the_default_reach_is_a_whole_number() -> None:
    """Tents of other widths do not add up to a constant, so flat evidence would show the grid of the parents."""
    assert float(REACH).is_integer()
    assert REACH >= 1


def test_equal_weights_are_smooth_upsampling() -> None:
    """Inside, a ramp of evidence becomes a ramp."""
    contributions = torch.arange(8.0).expand(1, 1, 8, 8)
    moved = move(contributions, torch.ones(1, 1, 32, 32), CellGrid(), CellGrid.tiling((4.0, 4.0)), 1.0)[0, 0]
    steps = moved[8:24, 8:24].diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / 64))


def test_only_ratios_of_weights_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    contributions = torch.randn(1, 1, 3, 5, generator=generator, dtype=torch.float64)
    weights = torch.randn(1, 1, 12, 20, generator=generator, dtype=torch.float64).exp()
    grids = CellGrid(), CellGrid.tiling((4.0, 4.0))
    torch.testing.assert_close(move(contributions, 7 * weights, *grids), move(contributions, weights, *grids))


def test_a_higher_weight_draws_evidence_of_both_signs() -> None:
    grids = CellGrid(), CellGrid.tiling((4.0, 4.0))
    contributions, weights = torch.tensor([[[[5.0, -5.0]]]]), torch.ones(1, 1, 4, 8)
    before = move(contributions, weights, *grids)
    weights[0, 0, 1, 1] = weights[0, 0, 2, 6] = 3.0
    after = move(contributions, weights, *grids)
    assert after[0, 0, 1, 1] > before[0, 0, 1, 1] > 0
    assert after[0, 0, 2, 6] < before[0, 0, 2, 6] < 0


@pytest.mark.parametrize("seed", range(30))
def test_each_parent_has_a_child(seed: int) -> None:
    """Parents outside the children too, and those of a grid that is finer than theirs."""
    generator = torch.Generator().manual_seed(seed)
    axis = random_axis(generator)
    for reach in REACHES:
        matrix = window_matrix(axis.children, axis.parents, axis.first, axis.pitch, reach)
        assert matrix.shape == (axis.children, axis.parents)
        assert bool((matrix >= 0).all())
        assert bool((matrix.amax(0) >= 0.5).all())


# To the pixels


def test_within_a_cell_what_stands_out_gets_more() -> None:
    images = torch.zeros(1, 3, 8, 8)
    images[..., 3, 3] = 2.0
    torch.testing.assert_close(detail(images)[0, 0, 3, 2:5], torch.tensor([DETAIL, 2 + DETAIL, DETAIL]))
    contributions = torch.tensor([[[[8.0, -1.0], [0.0, 2.0]]]])
    pixels = to_pixels(contributions, CellGrid.tiling((4.0, 4.0)), images)
    plain = to_pixels(contributions, CellGrid.tiling((4.0, 4.0)), torch.zeros(1, 3, 8, 8))
    assert_same_sum(pixels, contributions, 1e-6)
    assert pixels[0, 0, 3, 3] > 5 * plain[0, 0, 3, 3]
    assert pixels[0, 0, 0, 0] < plain[0, 0, 0, 0]


def test_detail_moves_evidence_no_further_than_the_next_cell() -> None:
    images = torch.zeros(1, 3, 16, 16)
    images[..., 15, 15] = 100.0
    contributions = torch.zeros(1, 1, 4, 4)
    contributions[0, 0, 0, 0] = 1.0
    pixels = to_pixels(contributions, CellGrid.tiling((4.0, 4.0)), images)
    assert bool((pixels[..., 6:, :] == 0).all())
    assert bool((pixels[..., 6:] == 0).all())


# Learned scores


def levels_of(generator: torch.Generator, gated: bool = False) -> tuple[Tensor, list[FinerLevel], CellGrid]:
    """Return parts of a class at the head, and two finer levels."""

    def level(channels: int, side: int, pitch: float) -> FinerLevel:
        gate = torch.rand(2, 1, side, side, generator=generator) + 0.5 if gated else None
        features = torch.randn(2, channels, side, side, generator=generator)
        return FinerLevel(features, gate, CellGrid.tiling((pitch, pitch)))

    parts = torch.randn(2, 6, 3, 3, generator=generator)
    return parts, [level(4, 12, 8.0), level(5, 6, 16.0)], CellGrid.tiling((32.0, 32.0))


def with_random_scores(module: Redistribution) -> Redistribution:
    for out in module.out:
        nn.init.normal_(out.weight, std=0.5)  # type: ignore[arg-type]
        nn.init.normal_(out.bias)  # type: ignore[arg-type]
    return module


@pytest.fixture
def scorer() -> Redistribution:
    torch.manual_seed(0)
    return with_random_scores(Redistribution(6, [4, 5], hidden=8))


def test_it_starts_as_smooth_upsampling() -> None:
    parts, below, grid = levels_of(torch.Generator().manual_seed(0))
    contributions = parts.sum(1, keepdim=True)
    finest, middle = Redistribution(6, [4, 5], hidden=8)(parts, contributions, grid, below)
    for moved in (finest, middle):
        assert torch.equal(moved.contributions, moved.unmoved)
        assert bool((moved.weights == 1).all())
    expected = move(contributions, torch.ones(2, 1, 6, 6), below[1].grid, grid)
    torch.testing.assert_close(middle.contributions, expected)
    expected = move(expected, torch.ones(2, 1, 12, 12), below[0].grid, below[1].grid)
    torch.testing.assert_close(finest.contributions, expected)


def test_learned_scores_move_evidence_and_make_none(scorer: Redistribution) -> None:
    parts, below, grid = levels_of(torch.Generator().manual_seed(0))
    contributions = parts.sum(1, keepdim=True)
    for moved in scorer(parts, contributions, grid, below):
        assert not torch.allclose(moved.contributions, moved.unmoved, rtol=1e-2)
        for maps in (moved.contributions, moved.unmoved):
            assert_same_sum(maps, contributions, 1e-5)


@pytest.mark.parametrize("is_linear", [True, False])
def test_scores_are_bounded_whatever_the_features(is_linear: bool, scorer: Redistribution) -> None:
    generator = torch.Generator().manual_seed(0)
    parts, below, grid = levels_of(generator)
    contributions = parts.sum(1, keepdim=True)
    for out in scorer.out:
        nn.init.constant_(out.bias, 1000.0)  # type: ignore[arg-type]
    for moved in scorer(parts if is_linear else None, contributions, grid, below):
        assert bool((moved.weights.log().abs() <= MAX_SCORE + 1e-4).all())
        assert_same_sum(moved.contributions, contributions, 1e-5)


def test_gates_of_the_forward_pass_weigh_the_windows() -> None:
    """The weights that decide are the weights that distribute."""
    parts, below, grid = levels_of(torch.Generator().manual_seed(0), gated=True)
    contributions = parts.sum(1, keepdim=True)
    finest, middle = Redistribution(6, [4, 5], hidden=8)(parts, contributions, grid, below)
    assert below[1].gate is not None
    assert torch.equal(middle.weights, below[1].gate)
    torch.testing.assert_close(middle.contributions, move(contributions, below[1].gate, below[1].grid, grid))
    assert torch.equal(middle.contributions, middle.unmoved)
    assert finest.weights is not below[0].gate
    assert_same_sum(finest.contributions, contributions, 1e-5)


def test_gates_and_scores_multiply(scorer: Redistribution) -> None:
    generator = torch.Generator().manual_seed(0)
    parts, below, grid = levels_of(generator, gated=True)
    without = [FinerLevel(level.features, None, level.grid) for level in below]
    contributions = parts.sum(1, keepdim=True)
    both, scores = scorer(parts, contributions, grid, below), scorer(parts, contributions, grid, without)
    for level, ours, theirs in zip(below, both, scores, strict=True):
        assert level.gate is not None
        torch.testing.assert_close(ours.weights, level.gate * theirs.weights)


def test_the_scale_of_features_and_of_the_logit_does_not_matter(scorer: Redistribution) -> None:
    parts, below, grid = levels_of(torch.Generator().manual_seed(0))
    contributions = parts.sum(1, keepdim=True)
    rescaled = [FinerLevel(10 * level.features, None, level.grid) for level in below]
    ours = scorer(parts, contributions, grid, below)
    theirs = scorer(3 * parts, 3 * contributions, grid, rescaled)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.weights, other.weights, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(3 * one.contributions, other.contributions, rtol=1e-3, atol=1e-4)


def test_images_do_not_see_each_other(scorer: Redistribution) -> None:
    parts, below, grid = levels_of(torch.Generator().manual_seed(0), gated=True)
    contributions = parts.sum(1, keepdim=True)

    def first(maps: Tensor | None) -> Tensor | None:
        return None if maps is None else maps[:1]

    alone = [FinerLevel(level.features[:1], first(level.gate), level.grid) for level in below]
    together, single = scorer(parts, contributions, grid, below), scorer(parts[:1], contributions[:1], grid, alone)
    for ours, theirs in zip(together, single, strict=True):
        torch.testing.assert_close(ours.contributions[:1], theirs.contributions)


def test_gradient_reaches_every_parameter(scorer: Redistribution) -> None:
    parts, below, grid = levels_of(torch.Generator().manual_seed(0))
    finest = scorer(parts, parts.sum(1, keepdim=True), grid, below)[0]
    finest.contributions.square().sum().backward()
    for name, parameter in scorer.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


# Whole networks


class TwoLayerHead(Pooled):
    """Network of strides that differ by axis whose head has a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, (2, 1), 1), nn.ReLU(), nn.MaxPool2d((2, 4)))
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, (1, 2), 1), nn.ReLU(), nn.Conv2d(12, 12, 3, 2), nn.ReLU())
        self.fc = nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 4))  # type: ignore[assignment]

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(self.stem(images))
        return features


class LinearHead(TwoLayerHead):
    """The same network with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 4)


OTHER_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear head": LinearHead,
    "hidden layer": TwoLayerHead,
    "NHWC": lambda: timm.create_model("test_mambaout", num_classes=4),
}


def random_scores(lap: LapModel) -> LapModel:
    """Let the redistribution and every gate work, at random."""
    torch.manual_seed(0)
    with_random_scores(lap.redistribution)
    for block in (*lap.gates, lap.head):
        nn.init.constant_(block.a, 1.5)
    return lap


def check_conservation(explanation: Explanation, tolerance: float = 1e-5) -> None:
    """Sum + bias = logit on every level and on the pixels."""
    logits = explanation.logits.gather(1, explanation.targets[:, None])[:, 0]
    scale = logits.abs().max()
    for maps in (explanation.map, *(level.contributions for level in explanation.levels)):
        assert bool(((sums_of(maps) + explanation.bias - logits).abs() <= tolerance * scale).all())
    assert explanation.gap <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (97, 130), (160, 72)])
def test_every_family_conserves_its_logit(
    family: str, size: tuple[int, int], make_lap: MakeLap, images_of: Images
) -> None:
    explanation = random_scores(make_lap(family)).explain(images_of(*size), torch.tensor([1, 3]))
    assert len(explanation.levels) > 1
    assert explanation.map.shape == (2, 1, *size)
    check_conservation(explanation)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (97, 130), (160, 72)])
@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_other_heads_strides_and_layouts_conserve_their_logit(
    name: str, size: tuple[int, int], images_of: Images
) -> None:
    torch.manual_seed(0)
    lap = random_scores(interp_core.attach(OTHER_NETWORKS[name]().eval(), image_size=96))
    explanation = lap.explain(images_of(*size), torch.tensor([2, 0]))
    assert len(explanation.levels) > 1
    assert lap.info.linear_head == (name == "linear head")
    check_conservation(explanation)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [2, 8, 16, 64])
def test_the_finest_grid_is_the_users_choice(
    cell: int, make_backbone: Callable[..., nn.Module], images: Tensor
) -> None:
    lap = interp_core.attach(make_backbone(), finest=32, cell=cell)
    reductions = [site.reduction for site in lap.levels]
    assert reductions == [reduction for reduction in (2, 4, 8, 16) if reduction >= cell]
    assert levels_below(lap.info, cell, ()) == lap.levels
    explanation = random_scores(lap).explain(images, 1)
    assert [level.attention is None for level in explanation.levels] == [*(True for _ in reductions), False]
    check_conservation(explanation)


@pytest.mark.slow
def test_attach_gives_the_map_at_once(family: str, make_backbone: Callable[..., nn.Module], images: Tensor) -> None:
    """Without training it is smooth upsampling; signed, and with the sum of the logit."""
    lap = interp_core.attach(make_backbone(family))
    explanation = lap.explain(images, 1)
    check_conservation(explanation)
    maps, grid = explanation.head.contributions, lap.info.grid_of((64, 64)).shown()
    for site, level in zip(reversed(lap.levels), reversed(explanation.levels[:-1]), strict=True):
        finer = site.grid_of((64, 64)).shown()
        maps, grid = move(maps, torch.ones_like(level.contributions), finer, grid), finer
        torch.testing.assert_close(level.contributions, maps, rtol=1e-4, atol=1e-5 * float(maps.abs().max()))


@pytest.mark.slow
def test_scores_change_the_map_and_nothing_else(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    before = lap.explain(images, 1)
    with_random_scores(lap.redistribution)
    after = lap.explain(images, 1)
    assert torch.equal(after.logits, before.logits)
    assert torch.equal(after.head.contributions, before.head.contributions)
    assert torch.equal(after.bias, before.bias)
    assert not torch.allclose(after.map, before.map, rtol=1e-2)


@pytest.mark.slow
def test_randomisation_leaves_nothing_that_was_learned(make_lap: MakeLap, images: Tensor) -> None:
    """Quantus' test resets each module that can be reset."""
    lap = make_lap()
    fresh = lap.explain(images, 1)
    with_random_scores(lap.redistribution)
    learned = {name: value.clone() for name, value in lap.redistribution.named_parameters()}
    lap.gates[0].trained.fill_(True)  # type: ignore[operator]
    for module in lap.redistribution.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]
    assert not any(torch.equal(value, learned[name]) for name, value in lap.redistribution.named_parameters())
    check_conservation(lap.explain(images, 1))
    lap.redistribution.reset_parameters()
    torch.testing.assert_close(lap.explain(images, 1).map, fresh.map)
    for block in lap.gates:
        block.reset_parameters()  # type: ignore[operator]
    assert not any(bool(block.trained) for block in lap.gates)  # type: ignore[arg-type]


@pytest.mark.slow
def test_another_last_layer_keeps_the_learned_scores(make_lap: MakeLap, images: Tensor) -> None:
    """No parameter belongs to a class."""
    lap = random_scores(make_lap())
    before = {name: value.clone() for name, value in lap.redistribution.state_dict().items()}
    lap.reset_classifier(9)
    assert all(torch.equal(value, before[name]) for name, value in lap.redistribution.state_dict().items())
    check_conservation(lap.explain(images, 8))


@pytest.mark.slow
def test_targets_differ_in_their_windows(make_lap: MakeLap, images: Tensor) -> None:
    """Windows know the class by its parts."""
    lap = random_scores(make_lap())
    maps = [lap.explain(images, k).contributions for k in (0, 1)]
    plain = copy.deepcopy(lap)
    plain.redistribution.reset_parameters()
    assert not torch.allclose(maps[0], maps[1])
    moved = [maps[k] - plain.explain(images, k).contributions for k in (0, 1)]
    assert not torch.allclose(moved[0], moved[1], rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype, make_lap: MakeLap, images: Tensor) -> None:
    lap = random_scores(make_lap()).to(dtype)
    explanation = lap.explain(images.to(dtype), 1)
    assert explanation.map.dtype == torch.float32
    assert bool(explanation.map.isfinite().all())
    check_conservation(explanation, 1e-5 if dtype == torch.float64 else 0.05)


@pytest.mark.slow
def test_it_costs_no_second_pass(make_lap: MakeLap, images: Tensor) -> None:
    lap, calls = make_lap(), list[Any]()
    lap.backbone.get_submodule("layer1").register_forward_hook(lambda *_: calls.append(1))
    lap.explain(images, 1)
    assert len(calls) == 1

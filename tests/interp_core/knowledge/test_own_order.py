"""Own order: the network's own map is cut and judged, and evidence moves to what decides."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import pytest
import timm
import torch
from helpers.nets import Pooled
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.errors import ContractError
from interp_core.knowledge import ModelAccess, OwnOrder, Term, View, observe, terms
from interp_core.knowledge.own_order import FLOOR, log_map, share_moved
from interp_core.knowledge.view import MovedClass
from interp_core.lap.redistribution import MovedLevel
from interp_core.training import OWN_TERMS, Recipe, fit
from interp_core.training.fit import default_terms

MakeLap = Callable[..., LapModel]
Images = Callable[..., Tensor]
SIDE = 32


# A network that can be worked out by hand


def make_view(maps: Tensor, weights: Tensor, count: int = 1, *, multi_label: bool = False, moved: float = 0.0) -> View:
    """Return a view of images of ones and a network whose logits are +- the sum of image times `weights` (H, W).

    Args:
        maps: the network's own map, (1, 1, H, W).
        weights: (H, W).
        count: number of images.
        multi_label: see `View`.
        moved: share of the evidence that learned scores have moved.
    """
    images = torch.ones(count, 1, *weights.shape)

    def forward_again(batch: Tensor, _maps: bool, _learn: bool) -> tuple[Tensor, None]:
        total = (batch[:, 0] * weights).sum((1, 2)) / 2
        return torch.stack([total, -total], 1), None

    def redistribute(_view: View, _columns: Tensor, contributions: Tensor) -> tuple[Sequence[MovedLevel], Tensor]:
        unmoved = torch.tensor([[[[1.0, 1.0]]]]).expand(len(contributions), -1, -1, -1)
        after = unmoved + moved * torch.tensor([1.0, -1.0])
        return [MovedLevel(after, unmoved, after)], maps.expand(len(contributions), 1, *weights.shape)

    concepts = torch.full((count, 2, 1, 1), 0.5)
    return View(
        images, torch.tensor([[1.0, 0.0]]).expand(count, 2), concepts, None, forward_again(images, False, True)[0],
        multi_label=multi_label, generator=torch.Generator().manual_seed(0),
        model=ModelAccess(
            forward_again, contributions=lambda: torch.full((count, 2, 1, 1), 2.0), redistribute=redistribute
        ),
    )  # fmt: skip


def ramp() -> Tensor:
    """Values 0 to 1 from left to right, (1, 1, SIDE, SIDE), none twice."""
    return torch.linspace(0, 1, SIDE * SIDE).view(1, 1, SIDE, SIDE).mT.contiguous()


def record_passes(view: View) -> list[Tensor]:
    """Return a list that receives the images of all further passes."""
    forward_again, batches = view.model.forward_again, list[Tensor]()
    assert forward_again is not None

    def run(batch: Tensor, maps: bool, learn: bool) -> tuple[Tensor, Tensor | None]:
        batches.append(batch.detach())
        return forward_again(batch, maps, learn)

    view.model = ModelAccess(run, view.model.contributions, redistribute=view.model.redistribute)
    return batches


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loss_is_that_of_both_parts(multi_label: bool) -> None:
    weights = torch.zeros(SIDE, SIDE)
    # 16 pixels decide, fewer than any cut leaves on either side: by log odds of 64, 32 as a sigmoid's own.
    weights[SIDE // 2 :, -1] = 4.0
    term = OwnOrder(background="zero", softness=1e-4)
    best = term.loss(make_view(ramp(), weights, 64, multi_label=multi_label)).item()
    worst = term.loss(make_view(1 - ramp(), weights, 64, multi_label=multi_label)).item()
    # The right map keeps it all, softplus(-64), and leaves softplus(0). The wrong one keeps nothing and leaves all.
    assert best == pytest.approx(math.log(2), rel=1e-3)
    assert worst == pytest.approx(math.log(2) + 64 / (2 if multi_label else 1), rel=1e-3)


def test_evidence_against_the_class_lies_below_every_cut() -> None:
    """It decides nothing about the upper part, and its amount does not change the loss."""
    weights = torch.zeros(SIDE, SIDE)
    weights[:, -8:] = 0.05
    mild, strong = torch.where(ramp() > 0.5, ramp(), -0.1), torch.where(ramp() > 0.5, ramp(), -50.0)
    term = OwnOrder(background="zero", largest=0.3)
    torch.testing.assert_close(log_map(strong)[..., :8], torch.full((1, 1, SIDE, 8), math.log(FLOOR)))
    losses = [term.loss(make_view(maps, weights, 16)).item() for maps in (mild, strong)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_the_scale_of_the_map_does_not_matter() -> None:
    torch.testing.assert_close(log_map(1e-6 * ramp()), log_map(ramp()), rtol=0, atol=1e-3)
    assert bool(log_map(torch.zeros(1, 1, 4, 4)).isfinite().all())
    assert bool(log_map(torch.full((1, 1, 4, 4), -3.0)).isfinite().all())


def test_gradient_draws_the_map_to_what_decides() -> None:
    weights = torch.zeros(SIDE, SIDE)
    weights[:, -8:] = 0.05
    maps = (1 + 0.1 * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))).requires_grad_()
    OwnOrder(background="zero").loss(make_view(maps, weights, 32)).backward()
    assert maps.grad is not None
    assert maps.grad[..., -8:].mean() < 0
    assert maps.grad[..., -8:].mean() < maps.grad[..., :-8].mean()


@pytest.mark.parametrize(("largest", "power"), [(0.6, 1.5), (0.2, 1.0), (1.0, 3.0)])
def test_cuts_take_small_parts_more_often_and_none_above_the_largest(largest: float, power: float) -> None:
    view = make_view(ramp(), torch.zeros(SIDE, SIDE), 64)
    batches = record_passes(view)
    OwnOrder(background="zero", softness=1e-4, largest=largest, power=power).loss(view)
    upper, lower = batches
    shares = upper.mean((1, 2, 3))
    expected = (0.02 + largest * ((torch.arange(64) + 0.5) / 64) ** power).clamp(max=0.98)
    assert (shares - expected).abs().max() < largest * power / 64 + 3 / SIDE**2
    torch.testing.assert_close(lower, 1 - upper)


@pytest.mark.parametrize(("share", "count"), [(1.0, 8), (0.5, 4), (0.3, 3), (0.01, 1)])
def test_a_share_of_the_images_is_cut(share: float, count: int) -> None:
    view = make_view(ramp(), torch.ones(SIDE, SIDE), 8)
    batches = record_passes(view)
    assert bool(OwnOrder(share=share).loss(view).isfinite())
    assert [len(batch) for batch in batches] == [count, count]


def test_the_price_is_the_share_of_the_evidence_that_was_moved() -> None:
    # Of evidence 2, 0.25 went from one cell to the other: an eighth of it.
    weights = torch.zeros(SIDE, SIDE)

    def loss(price: float, moved: float) -> float:
        return OwnOrder(price=price).loss(make_view(ramp(), weights, 4, moved=moved)).item()

    assert loss(0.0, 0.25) == pytest.approx(2 * math.log(2))
    assert loss(1.0, 0.25) == pytest.approx(2 * math.log(2) + 0.125)
    assert loss(4.0, 0.25) == pytest.approx(2 * math.log(2) + 0.5)
    assert loss(4.0, 0.0) == pytest.approx(2 * math.log(2))


def test_the_share_moved_is_summed_over_levels() -> None:
    column = torch.zeros(2, dtype=torch.long)
    contributions = torch.tensor([[[[3.0, -1.0]]], [[[0.0, 0.0]]]])
    unmoved = torch.tensor([[[[3.0, -1.0]]], [[[0.0, 0.0]]]])
    level = MovedLevel(unmoved + torch.tensor([0.5, -0.5]), unmoved, unmoved)
    twice = MovedClass(column, torch.ones(2), contributions, [level, level], unmoved)
    assert share_moved(twice)[0].item() == pytest.approx(0.25)
    empty = MovedClass(column, torch.ones(2), contributions, [], unmoved)
    assert share_moved(empty).tolist() == [0.0, 0.0]


def test_an_image_without_a_present_class_costs_nothing() -> None:
    view = make_view(ramp(), torch.ones(SIDE, SIDE), 2)
    view.labels = torch.zeros(2, 2)
    assert OwnOrder(price=1.0).loss(view).item() == 0.0


def test_it_costs_two_passes_and_needs_a_model() -> None:
    assert terms["own_order"]().passes == 2
    view = make_view(ramp(), torch.ones(SIDE, SIDE))
    view.model = ModelAccess()
    with pytest.raises(ContractError, match="made without a model"):
        OwnOrder().loss(view)


# A network whose decision lies in one known cell


class Colours(Pooled):
    """Network whose class is the colour of a square: red is 1, green 0, and blue decides nothing.

    Its last cells are 16 pixels wide, those of the level below 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 3, 4, 4), nn.Conv2d(3, 3, 4, 4)
        self.fc = nn.Linear(3, 2)
        self.feature_info = [{"module": "stem"}, {"module": "inner"}]
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            for colour in range(3):
                self.stem.weight[colour, colour] = self.inner.weight[colour, colour] = 1 / 16
            self.fc.weight.copy_(torch.tensor([[-32.0, 32.0, 0.0], [32.0, -32.0, 0.0]]))

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.inner(self.stem(images))
        return features


def squares(count: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    """Return images with a square of the class' colour and a brighter blue one, targets and masks of the former.

    Both lie in one cell of the head, so that only finer levels know which is where.
    """
    generator = torch.Generator().manual_seed(0)
    images, masks = 0.05 * torch.randn(count, 3, 64, 64, generator=generator), torch.zeros(count, 1, 64, 64)
    targets = torch.arange(count) % 2
    cells = torch.randint(4, (count, 2), generator=generator) * 16
    corners = torch.randint(2, (count, 2), generator=generator) * 8
    for i, ((top, left), (down, right)) in enumerate(zip(cells.tolist(), corners.tolist(), strict=True)):
        row, column = top + down, left + right
        other = top + 8 - down, left + 8 - right
        images[i, 1 - targets[i], row : row + 8, column : column + 8] += 4.0
        images[i, 2, other[0] : other[0] + 8, other[1] : other[1] + 8] += 6.0
        masks[i, 0, row : row + 8, column : column + 8] = 1
    return images, targets, masks


def attach_colours() -> LapModel:
    torch.manual_seed(0)
    return interp_core.attach(Colours(), image_size=64, cell=4).eval()


def share_on(lap: LapModel, images: Tensor, targets: Tensor, masks: Tensor) -> float:
    """Return the share of the map's positive part inside the masks."""
    maps = lap.explain(images, targets).map.clamp(min=0)
    return ((maps * masks).sum((1, 2, 3)) / maps.sum((1, 2, 3))).mean().item()


def train(lap: LapModel, images: Tensor, targets: Tensor, term: Term, epochs: int = 8) -> list[float]:
    """Train the redistribution alone; return the losses of the epochs."""
    recipe = Recipe(mode="frozen", epochs=epochs, batch_size=16, learning_rate=1e-2, shift=0)
    history = fit(lap, images, targets, recipe=recipe, terms=(term,))
    return [epoch.terms["own_order"] for epoch in history]


@pytest.mark.slow
def test_training_moves_evidence_onto_the_cell_that_decides() -> None:
    images, targets, masks = squares()
    lap = attach_colours()
    before = share_on(lap, images, targets, masks)
    logits = lap(images)
    losses = train(lap, images, targets, OwnOrder(background="zero", price=0))
    torch.testing.assert_close(lap(images), logits, rtol=1e-5, atol=1e-6)  # the memory format may have changed
    assert losses[-1] < 0.95 * losses[0]
    assert share_on(lap, images, targets, masks) > max(before + 0.2, 0.7)
    assert lap.explain(images, targets).gap < 1e-5


@pytest.mark.slow
def test_a_high_price_leaves_evidence_where_it_is() -> None:
    images, targets, _ = squares(48)
    shares = []
    for price in (0.0, 10.0):
        lap = attach_colours()
        train(lap, images, targets, OwnOrder(background="zero", price=price), epochs=4)
        shares.append(share_moved(observe(lap, images, targets).move_class()).mean().item())
    assert shares[0] > 0.2
    assert shares[1] < 0.3 * shares[0]


# What learns, and what does not


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_masked_passes_give_the_network_no_gradient(training: bool, make_lap: MakeLap, images: Tensor) -> None:
    """Also where the whole network learns from the images themselves."""
    lap = make_lap().train(training)
    required = [parameter.requires_grad for parameter in lap.parameters()]
    view = observe(lap, images, torch.tensor([1, 3]))
    masked = (0.5 * images).requires_grad_()
    view.logits_of(masked, learn=False).sum().backward()
    assert masked.grad is not None
    assert bool(masked.grad.abs().sum() > 0)
    assert all(parameter.grad is None for parameter in lap.parameters())
    assert [parameter.requires_grad for parameter in lap.parameters()] == required
    view.logits_of(masked).sum().backward()
    assert any(parameter.grad is not None for parameter in lap.backbone.parameters())


@pytest.mark.slow
def test_a_masked_pass_that_fails_leaves_parameters_learning(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap().train()
    view = observe(lap, images, torch.tensor([1, 3]))
    with pytest.raises(RuntimeError):
        view.logits_of(images[:, :1], learn=False)
    assert all(parameter.requires_grad for parameter in lap.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
def test_window_weights_and_gates_learn(name: str, make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap(name).train()
    OwnOrder().loss(observe(lap, images, torch.tensor([1, 3]))).backward()
    for out in lap.redistribution.out:
        assert out.weight.grad is not None
        assert bool(out.weight.grad.abs().sum() > 0)  # type: ignore[union-attr]
    assert any(block.a.grad is not None and bool(block.a.grad != 0) for block in lap.gates)  # type: ignore[union-attr, arg-type]
    # Otherwise the network could put its map in order by other features, or another last layer.
    assert all(parameter.grad is None for parameter in lap.backbone.parameters())


@pytest.mark.slow
def test_several_labels_an_image(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    labels = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    view = observe(lap, images, labels)
    moved = view.move_class()
    assert moved.present.tolist() == [1.0, 0.0]
    assert int(moved.column[0]) in (0, 2)
    assert view.move_class() is moved
    loss = OwnOrder(price=1.0).loss(view)
    assert bool(loss.isfinite())
    assert loss.item() > 0


@pytest.mark.slow
def test_the_map_of_the_term_is_the_map_that_is_shown(make_lap: MakeLap, images: Tensor) -> None:
    lap, targets = make_lap(), torch.tensor([1, 3])
    for out in lap.redistribution.out:
        nn.init.normal_(out.weight)  # type: ignore[arg-type]
    moved, explanation = observe(lap, images, targets).move_class(), lap.explain(images, targets)
    torch.testing.assert_close(moved.map.detach(), explanation.map, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved.contributions.detach(), explanation.head.contributions, rtol=1e-4, atol=1e-5)


# Whole trainings


@pytest.mark.parametrize("term", [OwnOrder()])
def test_it_is_among_the_default_terms(term: Term) -> None:
    assert [type(term) for term in OWN_TERMS] == [OwnOrder]
    for mode in ("scratch", "finetune", "frozen"):
        lap = interp_core.attach(timm.create_model("test_resnet", num_classes=3), image_size=64)
        assert sum(isinstance(term, OwnOrder) for term in default_terms(lap, Recipe(mode=mode))) == 1
    assert OwnOrder.model_validate(term.model_dump()) == term


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["scratch", "finetune", "frozen"])
@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
def test_sums_are_kept_after_training_in_every_mode(name: str, mode: str, make_lap: MakeLap, images_of: Images) -> None:
    """With linear heads and with hidden layers; scores of levels are shown where they were trained."""
    lap, images, targets = make_lap(name, a=0.0), images_of(64, 64, count=8), torch.arange(8) % 4
    before = copy.deepcopy(lap.state_dict())
    fit(lap, images, targets, recipe=Recipe(mode=mode, epochs=2, batch_size=4, shift=0))  # type: ignore[arg-type]
    explanation = lap.explain(images, targets)
    assert explanation.gap <= 1e-5
    assert any(not torch.equal(out.bias, torch.zeros(1)) for out in lap.redistribution.out)  # type: ignore[arg-type]
    for level in explanation.levels[:-1]:
        is_trained = mode != "frozen" and level.attention is not None
        assert ((level.scores is not None), (level.concepts is not None)) == (is_trained, is_trained)
    assert explanation.head.scores is not None
    is_unchanged = [torch.equal(value, before[f"backbone.{key}"]) for key, value in lap.backbone.state_dict().items()]
    assert all(is_unchanged) == (mode == "frozen")


@pytest.mark.slow
def test_gates_that_learn_beside_a_frozen_network_are_shown(make_lap: MakeLap, images_of: Images) -> None:
    lap, images = make_lap(a=0.0), images_of(64, 64, count=4)
    recipe = Recipe(mode="frozen", learn_gates=True, epochs=1, batch_size=4, shift=0)
    fit(lap, images, torch.arange(4), recipe=recipe)
    assert all(level.scores is not None for level in lap.explain(images).levels)

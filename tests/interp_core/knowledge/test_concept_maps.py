"""Every knowledge term on maps small enough to work out, its gradient's direction, and the ranges of its fields."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from interp_core.knowledge import Absence, Area, Presence, Term, terms, top_mean, view_of
from interp_core.knowledge.concept_maps import barrier

MAP = [[0.9, 0.1], [0.5, 0.3]]
MIRROR = [[0.1, 0.7], [0.7, 0.5]]
EXACT = 1e-5  # a small constant inside the logarithms moves the values by less


def maps_of(*classes: list[list[float]]) -> Tensor:
    return torch.tensor([classes], dtype=torch.float64)


@pytest.mark.parametrize(
    ("share", "expected"), [(1e-9, 0.9), (0.25, 0.9), (0.26, 0.7), (0.5, 0.7), (0.75, 1.7 / 3), (1.0, 0.45)]
)
def test_top_mean_rounds_the_share_up_to_positions(share: float, expected: float) -> None:
    assert top_mean(maps_of(MAP), share).item() == pytest.approx(expected)


@pytest.mark.parametrize(("share", "mean"), [(0.25, 0.9), (0.5, 0.7), (1.0, 0.45)])
def test_presence_is_the_surprise_at_the_highest_scores(share: float, mean: float) -> None:
    loss = Presence(share=share).loss(view_of(maps_of(MAP, MIRROR), torch.tensor([[1.0, 0.0]])))
    assert loss.item() == pytest.approx(-math.log(mean), abs=EXACT)


@pytest.mark.parametrize(("share", "mean"), [(0.25, 0.9), (0.5, 0.7), (1.0, 0.45)])
def test_absence_is_the_surprise_at_not_being_low(share: float, mean: float) -> None:
    loss = Absence(share=share).loss(view_of(maps_of(MAP, MIRROR), torch.tensor([[0.0, 1.0]])))
    assert loss.item() == pytest.approx(-math.log(1 - mean), abs=EXACT)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.02, 0.25, 0.04),
        (0.5, 0.6, 0.0025),
        (0.4, 0.5, 0.0),
        (0.45, 0.45, 0.0),
        (1.0, 1.0, 0.3025),
        (0.0, 0.0, 0.2025),
    ],
)
def test_area_is_the_squared_distance_to_the_range(low: float, high: float, expected: float) -> None:
    loss = Area(low=low, high=high).loss(view_of(maps_of(MAP, MIRROR), torch.tensor([[1.0, 0.0]])))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("active", "expected"),
    [
        (0.5, -2 * math.log(0.3) / 10),  # 0.3 from both bounds
        (0.79, -(math.log(0.01) + math.log(0.59)) / 10),  # the barrier meets its tangent 1 / t^2 from the bound
        (0.8, 10 * 0.01 - math.log(0.01) / 10 - math.log(0.6) / 10),
        (1.0, 10 * 0.21 - math.log(0.01) / 10 - math.log(0.8) / 10),
        (0.0, 10 * 0.21 - math.log(0.01) / 10 - math.log(0.8) / 10),
    ],
)
def test_the_barrier_keeps_away_from_both_bounds(active: float, expected: float) -> None:
    maps = torch.full((1, 1, 2, 2), active, dtype=torch.float64)
    loss = Area(low=0.2, high=0.8, form="barrier", t=10).loss(view_of(maps, torch.ones(1, 1)))
    assert loss.item() == pytest.approx(expected)


def test_the_barrier_is_smooth_and_its_slope_is_bounded() -> None:
    z = torch.linspace(-1, 1, 2001, dtype=torch.float64).requires_grad_()
    values = barrier(z, 5.0)
    (slope,) = torch.autograd.grad(values.sum(), z)
    assert (values >= 0).all()
    assert (slope > 0).all()
    assert slope.max() == pytest.approx(5.0)
    assert slope.diff().abs().max() < 0.15


def test_several_present_classes_are_averaged() -> None:
    both, maps = torch.tensor([[1.0, 1.0]]), maps_of(MAP, MIRROR)
    assert Presence(share=0.25).loss(view_of(maps, both)).item() == pytest.approx(
        -(math.log(0.9) + math.log(0.7)) / 2, abs=EXACT
    )
    # Shares 0.45 and 0.5 against at most 0.25.
    assert Area(low=0.0, high=0.25).loss(view_of(maps, both)).item() == pytest.approx((0.04 + 0.0625) / 2)
    assert Absence().loss(view_of(maps, both)).item() == 0


def test_several_absent_classes_are_averaged() -> None:
    none = torch.zeros(1, 2)
    expected = -(math.log(0.1) + math.log(0.3)) / 2
    assert Absence(share=0.25).loss(view_of(maps_of(MAP, MIRROR), none)).item() == pytest.approx(expected, abs=EXACT)
    assert Presence().loss(view_of(maps_of(MAP, MIRROR), none)).item() == 0
    assert Area().loss(view_of(maps_of(MAP, MIRROR), none)).item() == 0


def test_every_image_counts_the_same_whatever_its_number_of_labels() -> None:
    maps = torch.cat([maps_of(MAP, MIRROR), maps_of(MIRROR, MAP)])
    labels = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    first, second = -(math.log(0.9) + math.log(0.7)) / 2, -math.log(0.9)
    assert Presence(share=0.25).loss(view_of(maps, labels)).item() == pytest.approx((first + second) / 2, abs=EXACT)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", ["presence", "absence", "area"])
def test_losses_and_gradients_stay_finite_and_positive(name: str, value: float) -> None:
    maps = torch.full((2, 3, 4, 4), value).requires_grad_()
    loss = terms[name]().loss(view_of(maps, torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])))
    loss.backward()
    assert loss.shape == ()
    # The constant inside the logarithm may carry a perfect map below 0 by as much.
    assert loss >= -2e-6
    assert torch.isfinite(loss)
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


@pytest.mark.parametrize(("name", "value"), [("presence", 1.0), ("absence", 0.0)])
def test_no_loss_is_negative(name: str, value: float) -> None:
    labels = torch.tensor([[1.0, 0.0]])
    assert terms[name]().loss(view_of(torch.full((1, 2, 4, 4), value), labels)) >= 0


def gradient(term: Term, label: float) -> list[float]:
    maps = maps_of(MAP).requires_grad_()
    term.loss(view_of(maps, torch.tensor([[label]], dtype=torch.float64))).backward()
    assert maps.grad is not None
    return maps.grad.flatten().tolist()


def test_presence_pulls_up_the_highest_positions_alone() -> None:
    assert gradient(Presence(share=0.5), 1.0) == pytest.approx([-1 / 1.4, 0, -1 / 1.4, 0], abs=EXACT)
    assert gradient(Presence(share=0.5), 0.0) == [0, 0, 0, 0]


def test_absence_pushes_down_the_highest_positions_alone() -> None:
    assert gradient(Absence(share=0.5), 0.0) == pytest.approx([1 / 0.6, 0, 1 / 0.6, 0], abs=EXACT)
    assert gradient(Absence(share=0.5), 1.0) == [0, 0, 0, 0]


def test_area_pulls_all_positions_alike_towards_the_range() -> None:
    # d (m - 0.25)^2 / d I = 2 * 0.2 / 4, and d (0.6 - m)^2 / d I = -2 * 0.15 / 4.
    assert gradient(Area(low=0.0, high=0.25), 1.0) == pytest.approx([0.1] * 4)
    assert gradient(Area(low=0.6, high=0.7), 1.0) == pytest.approx([-0.075] * 4)
    assert gradient(Area(low=0.4, high=0.5), 1.0) == [0, 0, 0, 0]


@pytest.mark.slow
def test_descending_reaches_what_the_terms_ask_for() -> None:
    scores = torch.zeros(1, 2, 5, 5, requires_grad=True)
    labels = torch.tensor([[1.0, 0.0]])
    optimizer = torch.optim.Adam([scores], lr=0.2)
    for _ in range(200):
        optimizer.zero_grad()
        maps = scores.sigmoid()
        group = [Presence(share=0.1), Absence(), Area(low=0.1, high=0.2, weight=10)]
        torch.stack([term.weight * term.loss(view_of(maps, labels)) for term in group]).sum().backward()
        optimizer.step()
    maps = scores.sigmoid()
    assert top_mean(maps, 0.1)[0, 0] > 0.9
    assert maps[0, 1].max() < 0.1
    assert maps[0, 0].mean() < 0.3


@pytest.mark.parametrize(
    ("term", "fields"),
    [
        (Presence, {"share": 0.0}),
        (Presence, {"share": 1.1}),
        (Presence, {"weight": -0.1}),
        (Absence, {"share": -0.5}),
        (Absence, {"share": 2.0}),
        (Area, {"low": -0.1}),
        (Area, {"high": 1.1}),
        (Area, {"lower": 0.1}),
    ],
)
def test_fields_out_of_range_are_refused(term: type[Term], fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        term(**fields)  # type: ignore[arg-type]


def test_the_area_must_be_a_range() -> None:
    with pytest.raises(ValidationError, match=r"low must not exceed high, got 0\.5 > 0\.25"):
        Area(low=0.5)
    assert Area(low=0.25, high=0.25).low == 0.25


def test_terms_are_found_by_name_and_cannot_be_changed() -> None:
    assert {"presence", "absence", "area"} <= set(terms)
    for name, term in terms.items():
        assert term.name == name
        assert term().weight >= 0
    with pytest.raises(ValidationError, match="frozen"):
        Presence().weight = 2.0  # type: ignore[misc]


def test_a_term_must_say_what_it_costs() -> None:
    class Silent(Term):
        pass

    with pytest.raises(NotImplementedError, match="Silent must define loss"):
        Silent().loss(view_of(maps_of(MAP), torch.ones(1, 1)))

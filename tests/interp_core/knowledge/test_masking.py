"""Sufficiency and Necessity against a model that sums pixels, on images of four pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from interp_core.errors import ContractError
from interp_core.knowledge import Area, ModelAccess, Necessity, Sufficiency, View, terms, view_of
from interp_core.knowledge.masking import MaskingTerm, kl_divergence

IMAGE = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]])  # mean 1
MASK = [[1.0, 0.5], [0.0, 0.0]]
OTHER = [[0.0, 0.0], [0.0, 1.0]]


def first_pixel(images: Tensor, _maps: bool = False, _learn: bool = True) -> tuple[Tensor, None]:
    """Logits: the first pixel against its right neighbour."""
    return images[:, 0, 0, :2], None


def make_view(labels: list[float], *, multi_label: bool = False) -> View:
    maps = torch.tensor([[MASK, OTHER]]).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    logits = first_pixel(IMAGE)[0]
    return view_of(
        maps,
        torch.tensor([labels]),
        images=IMAGE,
        logits=logits,
        model=ModelAccess(first_pixel),
        multi_label=multi_label,
        generator=generator,
    )


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_sufficiency_is_the_surprise_at_the_class_in_the_evidence_alone() -> None:
    # Kept: 4 and half of 0, half of the mean 1: logits 4 and 0.5.
    loss = Sufficiency(background="mean").loss(make_view([1.0, 0.0]))
    assert loss.item() == pytest.approx(softplus(-3.5), rel=1e-5)
    # The map of class 1 keeps neither pixel: logits 1 and 1.
    assert Sufficiency(background="mean").loss(make_view([0.0, 1.0])).item() == pytest.approx(math.log(2))


def test_necessity_is_the_surprise_at_losing_the_class_in_the_rest() -> None:
    # The rest: the mean, and half of 0 with half of the mean.
    loss = Necessity(background="mean").loss(make_view([1.0, 0.0]))
    assert loss.item() == pytest.approx(softplus(0.5), rel=1e-5)
    assert Necessity(background="mean").loss(make_view([0.0, 1.0])).item() == pytest.approx(softplus(-4), rel=1e-5)


def test_where_classes_are_decided_each_for_itself_others_do_not_count() -> None:
    assert Sufficiency(background="mean").loss(make_view([1.0, 0.0], multi_label=True)).item() == pytest.approx(
        softplus(-4.0)
    )
    assert Necessity(background="mean").loss(make_view([1.0, 0.0], multi_label=True)).item() == pytest.approx(
        softplus(1.0)
    )


def test_against_the_answer_it_is_a_divergence() -> None:
    # From log odds 4 to log odds 3.5, between two classes or of one sigmoid the same.
    before, after = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(-3.5))
    expected = before * math.log(before / after) + (1 - before) * math.log((1 - before) / (1 - after))
    term = Sufficiency(background="mean", against="answer")
    assert term.loss(make_view([1.0, 0.0])).item() == pytest.approx(expected, rel=1e-3)
    assert term.loss(make_view([1.0, 0.0], multi_label=True)).item() == pytest.approx(0, abs=1e-6)


def test_gradients_pull_the_evidence_up() -> None:
    for term, sign in ((Sufficiency(background="mean"), -1), (Necessity(background="mean"), -1)):
        view = make_view([1.0, 0.0])
        term.loss(view).backward()
        assert view.maps.grad is not None
        assert view.maps.grad[0, 0, 0, 0] * sign > 0, type(term).__name__
        assert not view.maps.grad[0, 1].any()


def test_an_image_without_a_present_class_costs_nothing() -> None:
    for term in (Sufficiency(), Necessity()):
        assert term.loss(make_view([0.0, 0.0])).item() == 0


def test_only_classes_meant_are_drawn() -> None:
    view = make_view([1.0, 1.0])
    expected = {0: softplus(-3.5), 1: math.log(2)}
    for k, value in expected.items():
        assert Sufficiency(background="mean", of=k).loss(view).item() == pytest.approx(value, rel=1e-5)
    assert Sufficiency(background="mean", of=0).loss(make_view([0.0, 1.0])).item() == 0


def test_a_concept_below_the_head_has_no_decision() -> None:
    view = make_view([1.0, 0.0])
    view.below, view.concepts = {"stem": torch.zeros(1, 1, 2, 2)}, {"stem": ("fur",)}
    with pytest.raises(ContractError, match="decision for a class, and 'fur'"):
        Sufficiency(of="fur").loss(view)


def test_the_class_is_drawn_once_a_step_and_alike_for_both_terms() -> None:
    images, labels = torch.zeros(200, 1, 2, 2), torch.tensor([[1.0, 1.0, 0.0]]).expand(200, -1)
    view = view_of(torch.zeros(200, 3, 2, 2), labels, images=images, generator=torch.Generator().manual_seed(0))
    first, second = (MaskingTerm.sample_masks(term, view)[1] for term in (Sufficiency(), Necessity()))
    assert torch.equal(first, second)
    assert 70 < (first == 0).sum() < 130
    assert set(first.tolist()) == {0, 1}


def test_any_background_is_drawn_anew_each_step() -> None:
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    maps, labels = torch.full((1, 1, 16, 16), 0.5), torch.ones(1, 1)
    generator, keep = torch.Generator().manual_seed(0), torch.full((1, 1, 16, 16), 0.5)
    spreads = set()
    for _ in range(20):
        view = view_of(maps, labels, images=images, generator=generator)
        spreads.add(round(Sufficiency().mix(view, keep).std().item(), 6))
    fixed = {
        round(Sufficiency(background=name).mix(view_of(maps, labels, images=images), keep).std().item(), 6)
        for name in ("blur", "fill")
    }
    assert spreads == fixed
    assert len(spreads) == 2


def test_a_cut_mask_is_open_as_often_as_the_soft_one_is() -> None:
    maps = torch.tensor([0.1, 0.5, 0.9]).expand(4000, 1, 1, 3)
    images, generator = torch.zeros(4000, 1, 1, 3), torch.Generator().manual_seed(0)
    view = view_of(maps, torch.ones(4000, 1), images=images, generator=generator)
    masks = Sufficiency(mask="cut").sample_masks(view)[0]
    torch.testing.assert_close(masks.mean((0, 1, 2)), maps[0, 0, 0], atol=0.02, rtol=0)
    assert ((masks < 0.05) | (masks > 0.95)).float().mean() > 0.6
    assert (masks.diff(dim=-1) >= 0).all()


def test_a_share_of_the_images_is_looked_at() -> None:
    images, labels = (
        IMAGE * torch.tensor([1.0, 2.0, 3.0])[:, None, None, None],
        torch.tensor([[1.0, 0.0]]).expand(3, -1),
    )
    view = view_of(
        torch.tensor([[MASK, OTHER]]).expand(3, -1, -1, -1), labels, images=images, model=ModelAccess(first_pixel)
    )
    view.logits = first_pixel(images)[0]
    expected = (softplus(-3.5) + softplus(-7)) / 2
    assert Sufficiency(background="mean", share=0.5).loss(view).item() == pytest.approx(expected, rel=1e-5)
    assert Sufficiency(background="mean", share=0.5, against="answer").loss(view).item() > 0
    assert Necessity(background="mean", share=0.01).loss(view).item() == pytest.approx(softplus(0.5), rel=1e-5)


def test_a_divergence_is_zero_between_equals_and_positive_elsewhere() -> None:
    before = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    after, classes = before.roll(1, 0), torch.arange(5) % 4
    for multi_label in (False, True):
        torch.testing.assert_close(
            kl_divergence(before, before + 1.0 - float(multi_label), classes, multi_label), torch.zeros(5)
        )
        assert (kl_divergence(before, after, classes, multi_label) > 0).all()


def test_both_say_that_they_cost_a_pass() -> None:
    assert {name for name, term in terms.items() if term().passes} == {
        "sufficiency",
        "necessity",
        "agreement",
        "own_order",
        "exchange",
        "removal",
        "order",
    }


@pytest.mark.slow
def test_descending_finds_what_the_decision_rests_on() -> None:
    """A fixed model looks for bright pixels in one corner; maps that start flat learn where, from the label alone."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, 12, 12, generator=generator)
    images[:, :, 2:5, 6:9] += 2

    def forward_again(batch: Tensor, _maps: bool, _learn: bool) -> tuple[Tensor, None]:
        bright = 12 * (batch[:, 0, 2:5, 6:9].mean((1, 2)) - 1.5)
        return torch.stack([bright, torch.zeros_like(bright)], 1), None

    scores = torch.zeros(4, 2, 12, 12, requires_grad=True)
    labels = torch.tensor([[1.0, 0.0]]).expand(4, -1)
    optimizer = torch.optim.Adam([scores], lr=0.1)
    group = [Sufficiency(), Necessity(), Area(low=0.0, high=0.05, weight=30)]
    for _ in range(100):
        view = view_of(scores.sigmoid(), labels, images=images, model=ModelAccess(forward_again), generator=generator)
        optimizer.zero_grad()
        torch.stack([term.weight * term.loss(view) for term in group]).sum().backward()
        optimizer.step()
    maps = scores.sigmoid()[:, 0]
    inside = maps[:, 2:5, 6:9].sum((1, 2)) / maps.sum((1, 2))
    assert (inside > 8 * 9 / 144).all()

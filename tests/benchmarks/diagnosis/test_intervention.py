from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.cue_nets import RED_CELLS, cue_images, follower, twin
from statsmodels.stats.multitest import multipletests

from benchmarks.diagnosis.intervention import (
    MINIMUM_EFFECT,
    Outcome,
    adjust,
    deciding,
    intervene_on_region,
    is_cause,
    move_elsewhere,
    widen,
)
from benchmarks.diagnosis.region import FixedRegion
from benchmarks.diagnosis.subject import Subject

pytestmark = pytest.mark.slow
WITH = 1


def outcomes_of(subject: Subject, region: object, **options: object) -> dict[str, Outcome]:
    images, cues = cue_images(60, **options)  # type: ignore[arg-type]
    answers = subject.predict(images.images).argmax(1).numpy()
    holders = np.flatnonzero(cues.any((1, 2, 3)) & (answers == WITH))
    receivers = np.flatnonzero(answers != WITH)
    outcomes = intervene_on_region(subject, images, region, WITH, holders, receivers)  # type: ignore[arg-type]
    return {outcome.action: outcome for outcome in outcomes}


def test_a_cue_that_decides_is_a_cause() -> None:
    subject = follower()
    outcomes = outcomes_of(subject, RED_CELLS)
    assert set(outcomes) == {"remove", "add"}
    assert outcomes["remove"].difference.mean() < -MINIMUM_EFFECT
    assert outcomes["add"].difference.mean() > MINIMUM_EFFECT
    effects = [outcome.effect(subject.classes, outcome.p) for outcome in outcomes.values()]
    (decides,) = deciding(effects)  # removal leaves the object, so the answers stay
    assert decides.action == "add"
    assert is_cause(decides)
    assert deciding(effects[:1]) == effects[:1]


def test_an_effect_that_changes_no_answer_is_none() -> None:
    subject = follower()
    outcome = outcomes_of(subject, RED_CELLS)["add"]
    halved = (outcome.before + 0.2 * (outcome.after - outcome.before)) if outcome.before.size else outcome.before
    effect = Outcome("add", WITH, outcome.before, halved, outcome.before, outcome.examples).effect(("a", "b"), 1e-6)
    assert effect.difference.value > MINIMUM_EFFECT
    assert not is_cause(effect)


def test_a_cue_that_the_twin_ignores_is_none() -> None:
    subject = twin()
    for outcome in outcomes_of(subject, RED_CELLS).values():
        assert abs(outcome.difference.mean()) < 0.02
        assert not is_cause(outcome.effect(subject.classes, outcome.p))


@pytest.mark.parametrize(("make", "expected"), [(follower, True), (twin, False)])
def test_a_fixed_place_is_swapped_between_classes(make: object, expected: bool) -> None:
    corner = np.zeros((4, 4), bool)
    corner[0, 0] = True
    subject = make()  # type: ignore[operator]
    outcomes = outcomes_of(subject, FixedRegion(corner), place=(0, 0), share=1.0)
    assert "swap" in outcomes
    outcome = outcomes["swap"]
    assert is_cause(outcome.effect(subject.classes, outcome.p)) is expected


def test_effects_in_the_wrong_direction_are_no_causes() -> None:
    subject = follower()
    outcome = outcomes_of(subject, RED_CELLS)["add"]
    opposite = Outcome("add", WITH, outcome.after, outcome.before, outcome.after, outcome.examples)
    assert not is_cause(opposite.effect(subject.classes, opposite.p))


def test_flips_count_answers_that_change() -> None:
    before = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    after = np.array([[0.4, 0.6], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])
    effect = Outcome("add", 1, before, after, before, torch.zeros(0, 3, 3, 4, 4)).effect(("a", "b"), 0.5)
    assert effect.flips.value == 0.5
    assert effect.control_flips.value == 0.0
    assert effect.change.value == pytest.approx((after - before)[:, 1].mean())
    assert effect.p is None  # four images are too few
    assert effect.p_holm == 0.5


def test_p_values_are_adjusted_together() -> None:
    generator = np.random.default_rng(0)
    outcomes = []
    for shift in (0.0, 0.2, 0.4):
        before = np.full((20, 2), 0.5)
        after = before + np.array([-1, 1]) * (shift + 0.3 * generator.normal(size=(20, 1)))
        outcomes.append(Outcome("add", 1, before, after, before, torch.zeros(0, 3, 3, 4, 4)))
    expected = multipletests([outcome.p for outcome in outcomes], method="holm")[1]
    np.testing.assert_allclose(adjust(outcomes), expected)


def test_controls_do_not_overlap_a_corner() -> None:
    masks = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    masks[0, :, :4, :4] = masks[1, :, 6:10, :3] = masks[2, :, :2] = True
    moved = move_elsewhere(masks)
    assert not bool((moved & masks).any())
    assert torch.equal(moved.sum((1, 2, 3)), masks.sum((1, 2, 3)))


def test_widening_grows_every_side() -> None:
    masks = torch.zeros(1, 1, 100, 100, dtype=torch.bool)
    masks[..., 50, 50] = True
    assert widen(masks).sum() == 25
    assert torch.equal(widen(masks, margin=0.0), masks)

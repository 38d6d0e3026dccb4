"""Exchange of cues: the plan makes the cue independent of the label, the edit does what the plan says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.diagnosis.region import FixedRegion
from benchmarks.diagnosis.repairs.support.cue_exchange import CueExchange, plan_exchange
from benchmarks.diagnosis.repairs.support.cues import Cues, collect_donors, find_cues
from benchmarks.diagnosis.repairs.support.image_parts import Subset, hold_out, select_labelled, slices
from interp_core.datasets import ImageSet
from interp_core.errors import ContractError


def mixture(groups, present, plan):
    """Return the kinds' shares (G, G + 1) after the changes."""
    count = groups.max() + 1
    kinds = np.where(present, groups, count)
    before = np.array([[np.mean(kinds[groups == g] == kind) for kind in range(count + 1)] for g in range(count)])
    return (1 - plan.share) * before + plan.share * plan.table


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_cue_of_every_image(classes):
    groups = np.arange(60) % classes
    plan = plan_exchange(groups, np.ones(60, bool))
    assert plan.share == pytest.approx(1 - 1 / classes)
    shares = mixture(groups, np.ones(60, bool), plan)
    np.testing.assert_allclose(shares, shares[:1].repeat(classes, 0), atol=1e-9)
    assert shares[0, -1] == 0


def test_a_rare_cue_of_one_class():
    groups = np.array([0] * 80 + [1] * 20)
    present = np.arange(100) < 4
    plan = plan_exchange(groups, present)
    shares = mixture(groups, present, plan)
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-9)
    assert shares[1, 0] > 0.2
    assert shares[1, 1] == 0


def test_many_classes_are_balanced_as_far_as_possible():
    groups = np.arange(100) % 50
    plan = plan_exchange(groups, np.ones(100, bool))
    assert plan.share == pytest.approx(0.9)
    np.testing.assert_allclose(plan.table.sum(1), 1)
    assert (plan.table >= 0).all()


def coloured(groups):
    """Make grey images whose corner is as bright as their group."""
    images = np.full((len(groups), 3, 16, 16), 100, np.uint8)
    images[:, :, :4, :4] = (50 * groups + 150)[:, None, None, None]
    return ImageSet(images, groups, np.zeros((len(groups), 1, 16, 16), bool), [str(n) for n in range(len(groups))])


def corner():
    mask = np.zeros((16, 16), bool)
    mask[:4, :4] = True
    return FixedRegion(mask)


def test_the_edit_draws_by_the_plan():
    groups = np.arange(400) % 2
    images = coloured(groups)
    cues = find_cues(None, corner(), images, margin=0)
    donors = collect_donors(images, cues, groups, seed=0, most=10)
    assert sorted(donors.groups) == [0] * 5 + [1] * 5
    edit = CueExchange(cues, groups, donors, plan_exchange(groups, cues.present))
    pixels = torch.from_numpy(images.images).float() / 255
    changed = edit(pixels, torch.arange(400), torch.Generator().manual_seed(0))
    kinds = (changed[:, 0, 0, 0] * 255 > 175).numpy()
    for group in (0, 1):
        assert np.mean(kinds[groups == group]) == pytest.approx(0.5, abs=0.1)
    assert torch.equal(changed[:, :, 8:, 8:], pixels[:, :, 8:, 8:])


def test_images_without_a_cue_get_one_or_lose_nothing():
    groups = np.arange(40) % 2
    images = coloured(groups)
    masks = find_cues(None, corner(), images, margin=0)
    index = np.where(groups == 0, masks.index, -1)
    cues = Cues(groups == 0, (16, 16), index, masks.packed)
    donors = collect_donors(images, cues, groups, seed=0)
    assert set(donors.groups) == {0}
    assert not cues.masks_of([1]).any()
    edit = CueExchange(cues, groups, donors, plan_exchange(groups, cues.present, share=1.0))
    changed = edit(torch.from_numpy(images.images).float() / 255, torch.arange(40), torch.Generator().manual_seed(0))
    values = (changed[:, 0, 1, 1] * 255).round().numpy()
    assert set(values.tolist()) == {100.0, 150.0}


def test_masks_are_kept_as_bits_and_grown():
    images = coloured(np.zeros(3, int))
    cues = find_cues(None, corner(), images, margin=1 / 16)
    assert cues.masks_of([0, 2]).sum() == 2 * 25
    assert cues.area == pytest.approx(25 / 256)


def test_donors_need_a_cue():
    images = coloured(np.zeros(3, int))
    nothing = find_cues(None, FixedRegion(np.zeros((2, 2), bool)), images)
    with pytest.raises(ContractError):
        collect_donors(images, nothing, images.targets, seed=0)


def test_parts_of_a_data_set():
    images = coloured(np.arange(20) % 2)
    part = Subset(images, np.arange(5, 15))
    assert part.ids == [str(n) for n in range(5, 15)]
    rows, batch = next(part.batches(slices(len(part), 4)))
    assert rows.tolist() == [0, 1, 2, 3]
    assert batch.ids == ["5", "6", "7", "8"]
    assert part.take(np.array([9])).ids == ["14"]
    assert part.areas(np.array([0])).tolist() == [0]
    assert len(part.targets) == len(part) == 10
    stay, held_out = hold_out(images, images.targets, 0.2, seed=0)
    assert len(stay), len(held_out) == (16, 4)
    assert not set(stay.ids) & set(held_out.ids)
    assert sorted(np.bincount(held_out.targets)) == [2, 2]


def test_images_without_a_label_are_left_out():
    images = coloured(np.arange(20) % 2)
    images.targets[:4] = -1
    assert len(select_labelled(images)) == 16
    part = Subset(images, np.arange(20))
    assert isinstance(select_labelled(part), ImageSet)
    assert isinstance(select_labelled(part, memory=0), Subset)

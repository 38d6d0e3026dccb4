"""Arms of the shortcut study: what each is told."""

from __future__ import annotations

import pytest
import torch

from benchmarks.studies.shortcut.arms import ARMS, ShortcutArm, widen
from benchmarks.studies.shortcut.data import (
    TaggedData,
)

pytestmark = pytest.mark.slow


def test_copies_carry_the_regions_of_what_they_copy(forms: tuple[TaggedData, TaggedData]) -> None:
    train = forms[0].splits["train"]
    arm = ShortcutArm(name="x", title="x", region="irrelevant", share=0.1, copies=3)
    images, regions = arm.training_data(train, 0)
    rows, masks = regions["irrelevant"]
    known_rows = arm.known_rows(train, 0)
    assert len(images) == 40 + 2 * 4
    assert len(rows) == len(masks) == 3 * 4
    assert torch.equal(images.images[rows], train.images[known_rows].repeat(3, 1, 1, 1))
    assert torch.equal(masks, train.tags[known_rows].repeat(3, 1, 1, 1))


def test_a_margin_widens_a_region_on_every_side() -> None:
    mask = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
    mask[0, 0, 0, 3] = True
    wide = widen(mask, 2)
    assert wide[0, 0, :3, 1:6].all()
    assert int(wide.sum()) == 15
    assert torch.equal(widen(mask, 0), mask)


def test_arms_have_different_names_and_know_what_their_terms_ask_for() -> None:
    names = [arm.name for arm in ARMS]
    assert len(set(names)) == len(names)
    assert {"plain_clean", "plain", "lap"} <= set(names)
    for arm in ARMS:
        required = {name for term in arm.terms for name in term.needs()}
        assert required <= {arm.region}


def test_tags_exchanged_beforehand_are_another_images(forms: tuple[TaggedData, TaggedData]) -> None:
    arm = next(arm for arm in ARMS if arm.name == "plain_exchange")
    images, regions = arm.training_data(forms[0].splits["train"], 0)
    assert regions == {}
    # Each tag now lies on the image before the one that is shown with it.
    apart = (
        images.images
        != forms[0].splits["train"].take(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))).images
    )
    assert bool(apart.flatten(1).any(1).all())
    assert float(apart.float().mean()) < 0.1

"""Images with a shortcut: tags, and which images carry them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies.shortcut.data import (
    TaggedData,
    classes_of_tags,
    paint_tags,
    sample_evenly,
    tag_pattern,
)
from interp_core.datasets.synthetic.digits_in_scenes import TAG_COLOURS
from interp_core.errors import ContractError


def test_a_tag_is_one_square_in_a_corner_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    before = images.copy()
    painted, tags = paint_tags(images, np.array([0, 3, 9, 10, 13, 19]), np.random.default_rng(1))
    assert (images == before).all()
    assert (painted == np.where(tags, painted, images)).all()
    assert (tags.sum((1, 2, 3)) == 16).all()
    assert all(tag[0][np.ix_([0, -1], [0, -1])].sum() == 1 for tag in tags)
    repeated, _ = paint_tags(images, np.array([0, 3, 9, 10, 13, 19]), np.random.default_rng(1))
    assert (repeated == painted).all()


def test_twenty_classes_have_twenty_tags() -> None:
    patterns = {tag_pattern(k, 8).tobytes() for k in range(20)}
    assert len(patterns) == 20
    assert (tag_pattern(3, 8) == TAG_COLOURS[3]).all()
    assert (tag_pattern(13, 8).reshape(-1, 3).any(1)).mean() == 0.5


def test_a_tag_says_its_class_again() -> None:
    tag_classes = np.arange(10)
    images, tags = paint_tags(np.zeros((10, 3, 32, 32), np.uint8), tag_classes, np.random.default_rng(0))
    assert (classes_of_tags(images, tags, TAG_COLOURS) == tag_classes).all()


@pytest.mark.slow
def test_tags_agree_in_training_and_not_in_test(forms: tuple[TaggedData, TaggedData]) -> None:
    tagged, clean = forms
    for split in ("train", "val"):
        assert (tagged.splits[split].tag_classes == tagged.splits[split].targets).all()
        assert not clean.splits[split].tags.any()
    assert (tagged.splits["test"].tag_classes == tagged.splits["test"].targets).float().mean() < 0.5
    assert (clean.splits["test"].tag_classes == tagged.splits["test"].tag_classes).all()
    assert not clean.splits["clean"].tags.any()
    assert not tagged.splits["clean"].tags.any()


def test_hidden_tags_are_gone_and_the_rest_stays(forms: tuple[TaggedData, TaggedData]) -> None:
    val = forms[0].splits["val"]
    hidden = val.without_tags()
    apart = ~val.tags.expand_as(hidden)
    assert torch.equal(hidden[apart], val.images[apart])
    assert not torch.equal(hidden, val.images)


def test_evenly_takes_all_classes_alike() -> None:
    targets = torch.arange(10).repeat(20)
    assert targets[sample_evenly(targets, 20, 0)].bincount().tolist() == [2] * 10
    assert len(sample_evenly(targets, 25, 0)) == 25
    assert not torch.equal(sample_evenly(targets, 25, 0), sample_evenly(targets, 25, 1))


def test_without_the_photographs_it_says_so() -> None:
    from benchmarks.studies.shortcut.data import load_tiny

    with pytest.raises(ContractError, match="--root"):
        load_tiny(Path("nowhere"), 20, 20, 20)

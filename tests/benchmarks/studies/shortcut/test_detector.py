"""The detector of tags, trained on a few masks."""

from __future__ import annotations

import pytest
import torch

from benchmarks.studies.shortcut.arms import ARMS
from benchmarks.studies.shortcut.data import (
    TaggedData,
    TaggedImages,
)
from benchmarks.studies.shortcut.detector import detect, marking_term, score_masks
from interp_core.lap.model import LapModel
from interp_core.training import Recipe, fit

pytestmark = pytest.mark.slow


def test_a_taught_concept_finds_the_tag_in_all_images(forms: tuple[TaggedData, TaggedData]) -> None:
    arm = next(arm for arm in ARMS if arm.name == "lap_exchange_found")
    network = arm.network(10, 0, 64, detector=True)
    assert isinstance(network, LapModel)
    train = forms[0].splits["train"]
    few = torch.arange(10)
    recipe = Recipe(epochs=20, batch_size=20, learning_rate=0.01, shift=0)
    fit(network, train.images, train.targets, recipe=recipe, terms=(marking_term(network),),
        regions={"irrelevant": (few, train.tags[few])})  # fmt: skip
    scores = score_masks(detect(network, train.images), train)
    assert scores["found_recall"] > 0.6
    assert scores["found_iou"] > 0.3


def test_masks_are_judged_by_what_they_share_with_the_tags() -> None:
    tags, masks = torch.zeros(2, 1, 4, 4, dtype=torch.bool), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    tags[:, :, :2, :2], masks[0, :, :2, :3] = True, True
    images = TaggedImages(torch.zeros(2, 3, 4, 4), torch.zeros(2), tags, tags, torch.zeros(2))
    assert score_masks(masks, images) == {"found_iou": pytest.approx(2 / 6), "found_recall": pytest.approx(0.5)}

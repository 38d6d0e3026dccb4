from __future__ import annotations

import numpy as np
import pytest

from interp_core.datasets.synthetic.cues import KINDS, CueKind
from interp_core.datasets.synthetic.digits_in_scenes import DigitsInScenes
from interp_core.datasets.synthetic.digits_with_cue import CUE, DigitsWithCue

SCENES = DigitsInScenes(image_size=32, train=60, val=10, test=40, digit_scale=(0.4, 0.5), distractors=0)


def data(cue: CueKind = "tag", agreement: float = 1.0) -> DigitsWithCue:
    return DigitsWithCue(scenes=SCENES, cue=cue, agreement=agreement)


def test_user_and_twin_see_the_same_images_with_other_labels() -> None:
    user, twin, plain = data().load("train"), data(agreement=0).load("train"), SCENES.load("train")
    assert np.array_equal(user.images, twin.images)
    assert np.array_equal(user.regions[CUE], twin.regions[CUE])
    assert np.array_equal(twin.targets, plain.targets)
    assert user.ids == twin.ids
    # Cue and digit are independent.
    assert (user.targets == twin.targets).mean() < 0.3
    mixed = data(agreement=0.5).load("train").targets
    assert ((mixed == user.targets) | (mixed == twin.targets)).all()
    assert 0.2 < (mixed == user.targets).mean() < 0.8


@pytest.mark.parametrize("cue", KINDS)
def test_swapped_images_differ_in_the_cue_alone(cue: CueKind) -> None:
    agreeing, swapped = data(cue).load_swapped("test")
    assert np.array_equal(agreeing.targets, SCENES.load("test").targets)
    assert (agreeing.targets != swapped.targets).all()
    assert np.array_equal(agreeing.regions[CUE], swapped.regions[CUE])
    changed = (agreeing.images != swapped.images).any(1, keepdims=True)
    assert changed.any((1, 2, 3)).all()
    if cue != "colour":
        assert not (changed & ~agreeing.regions[CUE]).any()


def test_statistics_are_those_of_the_images_without_a_cue() -> None:
    assert data().channel_statistics() == SCENES.channel_statistics()
    assert data().classes == SCENES.classes


def test_the_first_images_do_not_depend_on_their_number() -> None:
    more = DigitsWithCue(scenes=SCENES.model_copy(update={"train": 80}), cue="texture").load("train")
    fewer = data("texture").load("train")
    assert np.array_equal(more.images[:60], fewer.images)
    assert np.array_equal(more.targets[:60], fewer.targets)


def test_identity_tells_user_and_twin_apart() -> None:
    assert data().identity() != data(agreement=0).identity()
    assert data("tag").identity() != data("object").identity()

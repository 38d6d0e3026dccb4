from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies.planted.causes import CAUSES, LOCAL, SHARE, draw_cues, measure_use, plant_cause, with_cues
from interp_core.datasets import DigitsInScenes, ImageSet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return DigitsInScenes(image_size=48, train=400, val=1, test=1).load("train")


@pytest.mark.parametrize("agreement", [0.5, 0.9, 1.0])
def test_cues_agree_with_labels_as_often_as_they_should(agreement: float) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 50_000)
    everywhere = draw_cues(labels, 10, agreement, "all", 3, generator)
    assert (everywhere == labels).mean() == pytest.approx(agreement, abs=0.01)
    one = draw_cues(labels, 10, agreement, "one", 3, generator)
    assert set(np.unique(one)) == {-1, 3}
    assert (labels[one == 3] == 3).mean() == pytest.approx(agreement, abs=0.02)
    assert (one[labels == 3] == 3).mean() == pytest.approx(SHARE, abs=0.02)


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if cause != "labels"])
def test_only_images_with_a_cue_change(cause: str, images: ImageSet) -> None:
    planted = plant_cause(cause, images, 10, agreement=0.9, scope="one", cls=2, seed=0)  # type: ignore[arg-type]
    changed = (planted.images.images != images.images).any((1, 2, 3))
    np.testing.assert_array_equal(changed, planted.cues >= 0)
    np.testing.assert_array_equal(planted.images.targets, images.targets)
    differs = (planted.images.images != images.images).any(1, keepdims=True)
    if cause in LOCAL:
        assert not (differs & ~planted.masks).any()
        assert 0 < planted.masks[planted.cues >= 0].mean() < 0.5


def test_flipped_labels_are_conflicts(images: ImageSet) -> None:
    planted = plant_cause("labels", images, 10, agreement=0.7, scope="one", cls=2, seed=0)
    flipped = planted.truth != planted.images.targets
    assert (planted.truth[flipped] == 2).all()
    assert (planted.images.targets[flipped] == 3).all()
    assert flipped[planted.truth == 2].mean() == pytest.approx(0.3, abs=0.2)
    np.testing.assert_array_equal(planted.conflicts, flipped)
    np.testing.assert_array_equal(planted.images.images, images.images)


def test_the_same_seed_plants_the_same(images: ImageSet) -> None:
    first, second = (plant_cause("tag", images, 10, agreement=0.9, scope="all", cls=0, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.images.images, second.images.images)
    third = plant_cause("tag", images, 10, agreement=0.9, scope="all", cls=0, seed=6)
    assert (third.cues != first.cues).any()


def test_use_is_one_for_a_network_that_reads_the_cue_and_zero_for_one_that_does_not(images: ImageSet) -> None:
    cues = np.full(len(images), 4)
    blue = with_cues("border", images, cues, 0).images.images[:, :, 0, 0].mean(0)

    def reads(pixels: np.ndarray) -> np.ndarray:
        return np.where(np.abs(pixels[:, :, 0, 0] - blue).max(1) < 2, 4, 0)

    def ignores(pixels: np.ndarray) -> np.ndarray:
        return np.zeros(len(pixels), int)

    assert measure_use(reads, "border", images, 10, "one", 4, 0) > 0.95
    assert measure_use(ignores, "border", images, 10, "one", 4, 0) == 0.0

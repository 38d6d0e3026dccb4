from __future__ import annotations

import numpy as np
import pytest

from interp_core.datasets.synthetic.cues import (
    FORMS,
    KINDS,
    NUMBERS,
    CueKind,
    free_corners,
    half_weights,
    plant,
    shapes,
)


@pytest.fixture(scope="module")
def scenes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey images of 48 pixels with an object of 20 pixels, and random numbers."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 150, (30, 3, 48, 48)).astype(np.uint8)
    objects = np.zeros((30, 1, 48, 48), bool)
    for mask, (top, left) in zip(objects, rng.integers(0, 28, (30, 2)), strict=True):
        mask[0, top : top + 20, left : left + 20] = True
    return images, objects, rng.random((30, NUMBERS))


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_only_the_cue_changes_and_the_object_is_spared(
        self, kind: CueKind, scenes: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> None:
        images, objects, unit = scenes
        before = images.copy()
        painted, masks = plant(kind, images, objects, np.arange(30) % FORMS, unit)
        assert np.array_equal(images, before)
        assert (painted.dtype, masks.dtype, masks.shape) == (np.uint8, bool, (30, 1, 48, 48))
        assert masks.any((1, 2, 3)).all()
        changed = (painted != images).any(1, keepdims=True)
        if kind == "colour":  # the cast fades out beyond the mask
            assert (changed & masks).sum() > 0.8 * masks.sum()
        else:
            assert not (changed & ~masks).any()
            assert (objects & masks).sum() == 0

    def test_the_same_numbers_give_the_same_position_for_every_class(
        self, kind: CueKind, scenes: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> None:
        images, objects, unit = scenes
        first, second = (plant(kind, images, objects, np.full(30, k), unit) for k in (2, 7))
        assert np.array_equal(first[1], second[1])
        assert (first[0] != second[0]).any((1, 2, 3)).all()
        again = plant(kind, images, objects, np.full(30, 2), unit)
        assert np.array_equal(first[0], again[0])

    def test_ten_classes_have_ten_forms(self, kind: CueKind, scenes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        images, objects, unit = scenes
        one = [plant(kind, images[:1], objects[:1], np.array([k]), unit[:1])[0].tobytes() for k in range(FORMS)]
        assert len(set(one)) == FORMS

    def test_an_object_that_fills_the_image_is_no_error(self, kind: CueKind) -> None:
        full = np.ones((2, 1, 32, 32), bool)
        images = np.full((2, 3, 32, 32), 128, np.uint8)
        painted, masks = plant(kind, images, full, np.array([0, 1]), np.zeros((2, NUMBERS)))
        assert painted.shape == images.shape
        assert masks.shape == full.shape


def test_shapes_are_distinct_and_visible() -> None:
    forms = shapes(16)
    differences = (forms[:, None] != forms[None]).mean((2, 3)) + np.eye(FORMS)
    assert forms.shape == (FORMS, 16, 16)
    assert (forms.mean((1, 2)) > 0.2).all()
    assert differences.min() > 0.1


def test_a_free_square_is_drawn_uniformly_among_those_with_the_least_of_the_object() -> None:
    objects = np.zeros((400, 1, 8, 8), bool)
    objects[:, :, :, :4] = True
    corners = free_corners(objects, 3, (np.arange(400) + 0.5) / 400)
    assert set(corners[:, 1].tolist()) == {4, 5}
    assert set(corners[:, 0].tolist()) == set(range(6))
    _, counts = np.unique(corners, axis=0, return_counts=True)
    assert counts.max() - counts.min() <= 1


def test_corners_of_the_image_are_four() -> None:
    objects = np.zeros((4, 1, 9, 12), bool)
    objects[:, :, :4, :4] = True
    corners = free_corners(objects, 3, np.array([0, 0.4, 0.7, 0.99]), only_corners=True)
    assert corners.tolist() == [[0, 9], [6, 0], [6, 9], [6, 9]]


def test_the_half_with_the_least_of_the_object_is_taken() -> None:
    objects = np.zeros((1, 1, 8, 8), bool)
    objects[:, :, 5:, 2:6] = True
    weights = half_weights(objects, 0, np.array([0.0]))
    assert (weights[0, 0, :4] == 1).all()
    assert (weights[0, 0, 4:] == 0).all()
    soft = half_weights(objects, 0.5, np.array([0.0]))[0, 0, :, 0]
    assert ((soft > 0) & (soft < 1)).sum() == 4

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.diagnosis.properties import NAMES, frame_mask, image_properties, perceptual_hash


def value_of(images, name):
    return image_properties(images)[:, NAMES.index(name)]


def flat(red, green, blue, side=20):
    return np.broadcast_to(np.array([red, green, blue], np.uint8)[:, None, None], (3, side, side))[None].copy()


def test_brightness_of_flat_images_is_their_value():
    images = np.concatenate([flat(0, 0, 0), flat(255, 255, 255), flat(51, 51, 51)])
    np.testing.assert_allclose(value_of(images, "brightness"), [0, 1, 0.2], atol=1e-6)


def test_contrast_of_two_halves_is_half_their_difference():
    image = flat(0, 0, 0)
    image[..., :10] = 255
    assert value_of(image, "contrast") == pytest.approx(0.5)


def test_colours_are_the_differences_of_the_channel_means():
    image = flat(255, 0, 0)
    assert value_of(image, "red") == pytest.approx(2 / 3)
    assert value_of(image, "green") == pytest.approx(-1 / 3)
    assert value_of(image, "blue") == pytest.approx(-1 / 3)


def test_saturation_is_the_range_of_the_channels():
    np.testing.assert_allclose(value_of(np.concatenate([flat(255, 0, 51), flat(9, 9, 9)]), "saturation"), [1, 0])


def test_sharpness_of_a_chequerboard_is_the_variance_of_its_laplacian():
    board = (np.indices((20, 20)).sum(0) % 2 * 255).astype(np.uint8)
    image = np.broadcast_to(board, (1, 3, 20, 20))
    assert value_of(image, "sharpness") == pytest.approx(np.log(16), abs=1e-4)  # the Laplacian is 4 or -4
    assert value_of(flat(9, 9, 9), "sharpness") == pytest.approx(np.log(1e-6))


def test_border_is_the_difference_of_the_frame_to_the_mean():
    image = flat(0, 0, 0)
    frame = frame_mask(20, 20)
    image[:, :, frame] = 255
    assert value_of(image, "border") == pytest.approx(1 - frame.mean(), abs=1e-6)


def test_the_frame_is_a_share_of_each_side():
    mask = frame_mask(100, 50)
    assert mask[:6].all()
    assert mask[:, :3].all()
    assert not mask[6:-6, 3:-3].any()


def test_the_hash_does_not_see_a_shift_of_brightness():
    images = np.random.default_rng(0).integers(0, 200, (5, 3, 32, 32)).astype(np.uint8)
    hashes = perceptual_hash(images)
    np.testing.assert_array_equal(hashes, perceptual_hash(images + np.uint8(40)))
    assert len(np.unique(hashes)) == 5
    assert perceptual_hash(flat(7, 7, 7)) == 0

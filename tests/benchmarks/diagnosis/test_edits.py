from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.diagnosis import edits
from benchmarks.diagnosis.edits import edit_of
from benchmarks.diagnosis.properties import NAMES, image_properties

MEASURES = {
    "brightness": edits.measure_brightness,
    "contrast": edits.measure_contrast,
    "red": lambda x: edits.measure_colour(x, edits.RED),
    "green": lambda x: edits.measure_colour(x, edits.GREEN),
    "blue": lambda x: edits.measure_colour(x, edits.BLUE),
    "saturation": edits.measure_saturation,
    "sharpness": edits.measure_sharpness,
    "border": edits.measure_border,
}
AMOUNTS = {"sharpness": (-2.0, 1.0), "border": (-0.05, 0.2), "saturation": (-0.08, 0.1), "contrast": (-0.05, 0.05)}


@pytest.fixture(scope="module")
def images():
    """Smooth scenes with a little noise, of middling brightness."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 6, 6, generator=generator) * 0.6 + 0.2
    smooth = F.interpolate(coarse, (48, 40), mode="bilinear")
    return (smooth + 0.03 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def measured(images, name):
    return image_properties((images * 255).numpy())[:, NAMES.index(name)]


@pytest.mark.parametrize("name", NAMES)
def test_the_measures_are_the_stored_properties(images, name):
    np.testing.assert_allclose(MEASURES[name](images).numpy(), measured(images, name), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", [0, 1])
def test_an_edit_moves_its_property_by_the_amount(images, name, direction):
    amount = AMOUNTS.get(name, (-0.1, 0.1))[direction]
    moved = edit_of(name).apply(images, amount)
    assert moved.min() >= 0
    assert moved.max() <= 1
    np.testing.assert_allclose(measured(moved, name) - measured(images, name), amount, atol=0.02 * abs(amount) + 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_control_changes_as_much_but_not_the_property(images, name):
    edit, amount = edit_of(name), AMOUNTS.get(name, (-0.1, 0.1))[1]
    moved, control = edit.apply(images, amount), edit.apply_control(images, amount)
    change = measured(control, name) - measured(images, name)
    assert np.abs(change).max() < 0.15 * abs(amount)
    ratio = (control - images).flatten(1).norm(dim=1) / (moved - images).flatten(1).norm(dim=1)
    assert ratio.min() > 0.6
    assert ratio.max() < 1.5


def test_controls_are_reproducible(images):
    edit = edit_of("brightness")
    assert torch.equal(edit.apply_control(images, 0.1), edit.apply_control(images, 0.1))


def test_a_border_takes_the_colour_of_the_class(images):
    moved = edit_of("border", frame=(1.0, 0.0, 0.0)).apply(images, 0.15)
    assert (moved[:, 0, 0] >= images[:, 0, 0]).all()
    assert (moved[:, 1, 0] <= images[:, 1, 0]).all()
    assert torch.equal(moved[..., 20, 20], images[..., 20, 20])


@pytest.mark.parametrize("name", NAMES)
def test_a_flat_image_stays_finite(name):
    flat = torch.full((2, 3, 16, 16), 0.5)
    edit = edit_of(name)
    for moved in (edit.apply(flat, 0.1), edit.apply(flat, -0.1), edit.apply_control(flat, 0.1)):
        assert torch.isfinite(moved).all()


def test_there_is_no_edit_of_a_file():
    assert edit_of("file:bytes") is None


def test_blur_is_that_of_scipy(images):
    from scipy.ndimage import gaussian_filter

    blurred = edits.blur(images[:1], torch.full((1, 1, 1, 1), 2.0))[0, 0].numpy()
    np.testing.assert_allclose(blurred, gaussian_filter(images[0, 0].numpy(), 2.0, mode="reflect"), atol=1e-3)

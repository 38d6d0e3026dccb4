"""Geometry: pixels as timm makes them, and evidence that still covers the object whatever is done to the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from interp_core.datasets.files.resize import Filter, Geometry, Resize, geometry_of, timm_preprocessing
from interp_core.datasets.records import Box

SIDES = st.integers(8, 90)
RESIZES = st.sampled_from(["crop", "squash", "pad"])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Geometry, Box]:
    """A way to resize some picture, perhaps mirrored, and a box in it, on whole pixels or not."""
    width, height = draw(SIDES), draw(SIDES)
    geometry = geometry_of(
        (width, height), draw(st.integers(8, 60)), draw(RESIZES), draw(st.sampled_from([1.0, 0.875, 0.5]))
    )
    outer = draw(st.booleans())
    xs, ys = (sorted(draw(st.tuples(st.floats(0, side), st.floats(0, side)))) for side in (width, height))
    if outer:
        xs, ys = [[round(a) for a in pair] for pair in (xs, ys)]
    box = Box(xs[0], ys[0], max(xs[1], xs[0] + 1), max(ys[1], ys[0] + 1))
    return (geometry.flip() if draw(st.booleans()) else geometry), box


def to_output(geometry: Geometry, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture lands, written out."""
    x0, y0, x1, y1 = geometry.part
    left, top, right, bottom = geometry.place
    column, row = left + (x - x0) / (x1 - x0) * (right - left), top + (y - y0) / (y1 - y0) * (bottom - top)
    return (geometry.size - column if geometry.flipped else column), row


def drawn(geometry: Geometry, box: Box) -> np.ndarray:
    """A box with whole corners as a mask of the picture."""
    mask = np.zeros(geometry.source[::-1], bool)
    mask[int(box.y0) : int(np.ceil(box.y1)), int(box.x0) : int(np.ceil(box.x1))] = True
    return mask


@given(scenes(), st.floats(0, 1), st.floats(0, 1))
def test_every_point_of_a_box_that_is_shown_is_covered(scene: tuple[Geometry, Box], u: float, v: float) -> None:
    geometry, box = scene
    x, y = box.x0 + u * (box.x1 - box.x0), box.y0 + v * (box.y1 - box.y0)
    column, row = to_output(geometry, x, y)
    left, top, right, bottom = geometry.place
    if geometry.flipped:
        left, right = geometry.size - right, geometry.size - left
    edge = 1e-4  # a point on the rim of a pixel belongs to either
    if not (left + edge < column < right - edge and top + edge < row < bottom - edge):
        return
    covered = geometry.resize_boxes([box])
    near = {(int(row + a), int(column + b)) for a in (-edge, edge) for b in (-edge, edge)}
    assert any(covered[place] for place in near)


@given(scenes())
def test_a_box_covers_no_more_than_the_pixels_it_touches(scene: tuple[Geometry, Box]) -> None:
    geometry, box = scene
    place = geometry.resize_box(box)
    if place is None:
        return
    columns = sorted(to_output(geometry, x, 0)[0] for x in (box.x0, box.x1))
    rows = sorted(to_output(geometry, 0, y)[1] for y in (box.y0, box.y1))
    assert place[0] > columns[0] - 1 - 1e-6
    assert place[2] < columns[1] + 1 + 1e-6
    assert place[1] > rows[0] - 1 - 1e-6
    assert place[3] < rows[1] + 1 + 1e-6


@given(scenes())
def test_a_box_and_its_mask_cover_the_same(scene: tuple[Geometry, Box]) -> None:
    geometry, box = scene
    outer = Box(int(box.x0), int(box.y0), int(np.ceil(box.x1)), int(np.ceil(box.y1)))
    np.testing.assert_array_equal(geometry.resize_mask(drawn(geometry, outer)), geometry.resize_boxes([outer]))


@given(scenes(), st.integers(2, 4))
def test_a_mask_of_another_size_covers_what_it_covers(scene: tuple[Geometry, Box], times: int) -> None:
    geometry, box = scene
    mask = drawn(geometry, box)
    np.testing.assert_array_equal(
        geometry.resize_mask(mask.repeat(times, 0).repeat(times, 1)), geometry.resize_mask(mask)
    )
    outer = Box(*(times * value for value in (box.x0, box.y0, box.x1, box.y1)))
    width, height = geometry.source
    np.testing.assert_array_equal(
        geometry.resize_boxes([outer], (times * width, times * height)), geometry.resize_boxes([box])
    )


@pytest.mark.slow
@given(scenes())
def test_flipping_the_geometry_flips_what_it_makes(scene: tuple[Geometry, Box]) -> None:
    geometry, box = scene
    mask, image = drawn(geometry, box), Image.fromarray(drawn(geometry, box))
    image = image.convert("L")
    np.testing.assert_array_equal(geometry.flip().resize_mask(mask), geometry.resize_mask(mask)[:, ::-1])
    np.testing.assert_array_equal(geometry.flip().resize_boxes([box]), geometry.resize_boxes([box])[:, ::-1])
    np.testing.assert_array_equal(geometry.flip().resize_image(image), geometry.resize_image(image)[..., ::-1])
    assert geometry.flip().flip() == geometry


@settings(max_examples=50)
@given(scenes())
def test_evidence_lies_where_the_object_is_seen(scene: tuple[Geometry, Box]) -> None:
    """A bright object on black: whatever is bright after resampling by area is covered."""
    geometry, box = scene
    mask = drawn(geometry, box)
    pixels = geometry.resize_image(Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)), "bilinear", fill=0)[0]
    grown = np.pad(geometry.resize_mask(mask), 1, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(grown, (3, 3)).any((2, 3))
    assert not (pixels[~near] > 127).any()


@pytest.mark.parametrize("source", [(50, 50), (61, 50), (50, 83), (300, 201), (227, 227)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.95])
def test_cropping_gives_the_pixels_of_timm(source: tuple[int, int], crop_pct: float) -> None:
    from timm.data import create_transform

    noise = np.random.default_rng(0).normal(0, 80, (*source[::-1], 3))
    # Far from 0 and 255: what overshoots is clipped between the two passes, whose order differs.
    image = Image.fromarray((128 + gaussian_filter(noise, (1, 1, 0))).clip(0, 255).astype(np.uint8))
    transform = create_transform(
        (3, 48, 48), is_training=False, crop_pct=crop_pct, interpolation="bicubic", normalize=False
    )
    theirs = np.asarray(transform(image))
    ours = geometry_of(source, 48, "crop", crop_pct).resize_image(image)
    assert theirs.shape == ours.shape
    apart = np.abs(theirs.astype(int) - ours)
    assert apart.max() <= 1


def test_squash_and_pad_are_what_they_say() -> None:
    image = Image.fromarray(np.full((10, 20), 200, np.uint8))
    assert (geometry_of((20, 10), 8, "squash").resize_image(image) == 200).all()
    padded = geometry_of((20, 10), 8, "pad").resize_image(image, fill=7)
    assert (padded[:, 2:6] == 200).all()
    assert (padded[:, [0, 1, 6, 7]] == 7).all()


def test_a_box_outside_the_crop_is_not_shown() -> None:
    geometry = geometry_of((30, 10), 10, "crop")
    assert geometry.resize_box(Box(0, 0, 10, 10)) is None
    assert geometry.resize_box(Box(9, 0, 11, 10)) == (0, 0, 1, 10)
    assert not geometry.resize_boxes([Box(25, 0, 30, 10)]).any()


def test_a_single_pixel_does_not_vanish() -> None:
    mask = np.zeros((500, 500), bool)
    mask[333, 77] = True
    resized = geometry_of((500, 500), 10, "squash").resize_mask(mask)
    assert resized.sum() == 1
    assert resized[6, 1]


def test_preprocessing_is_that_of_the_backbone() -> None:
    expected = timm_preprocessing("mobilenetv3_small_100")
    assert (expected.size, expected.interpolation, expected.crop_pct) == (224, "bicubic", 0.875)
    assert expected.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("filter_", ["bicubic", "bilinear"])
@pytest.mark.parametrize("source", [(500, 375), (375, 500), (64, 48), (31, 900), (224, 224), (40, 40)])
@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_pixels_are_pillows_but_for_rounding(
    resize: Resize, source: tuple[int, int], filter_: Filter, mode: str
) -> None:
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    image = small.resize(source, Image.Resampling.BICUBIC).convert(mode)
    geometry = geometry_of(source, 56, resize, 0.875)
    left, top, right, bottom = geometry.place
    filled = image.resize((right - left, bottom - top), Image.Resampling[filter_.upper()], box=geometry.part)
    expected = np.asarray(filled.convert("RGB")).transpose(2, 0, 1).astype(int)
    difference = np.abs(geometry.resize_image(image, filter_)[:, top:bottom, left:right].astype(int) - expected)
    assert difference.max() <= 2
    assert np.mean(difference) < 0.2

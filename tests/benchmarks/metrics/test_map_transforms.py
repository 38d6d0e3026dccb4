from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.metrics.map_transforms import MapTransform, build_transforms


def random_maps(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, 1, 24, 32)).astype(np.float32)


@pytest.mark.parametrize("transform", build_transforms((2.0,), (8,), (2.0,)), ids=lambda t: t.name)
def test_what_says_nothing_still_says_nothing(transform: MapTransform) -> None:
    maps = random_maps()
    maps[0] = np.nan
    maps[1] = 0.3
    changed = transform(maps)
    assert changed.dtype == np.float32
    assert np.array_equal(changed[:2], maps[:2], equal_nan=True)
    assert not np.array_equal(changed[2], maps[2])


def test_smoothing_is_a_gaussian_blur() -> None:
    maps = random_maps()
    blurred = MapTransform("smooth", 2.0)(maps)
    expected = cv2.GaussianBlur(maps[0, 0], (17, 17), 2.0, borderType=cv2.BORDER_REFLECT)
    assert np.abs(blurred[0, 0] - expected).max() < 1e-5


def test_a_grid_keeps_means_of_cells_that_fill_it_evenly() -> None:
    cells = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    maps = np.kron(cells, np.ones((12, 12), np.float32)).astype(np.float32)[:, :, :24, :24]
    coarse = MapTransform("grid", 2)(maps)
    assert np.allclose(coarse[0, 0, 0, 0], maps[0, 0, :12, :12].mean())
    assert np.allclose(coarse[0, 0, -1, -1], maps[0, 0, 12:, 12:].mean())
    assert np.ptp(coarse) <= np.ptp(maps)


def test_a_grid_of_one_cell_says_nothing() -> None:
    assert (np.ptp(MapTransform("grid", 1)(random_maps()), axis=(1, 2, 3)) == 0).all()


@pytest.mark.parametrize("power", [0.5, 2.0, 3.0])
def test_sharpening_keeps_signs_and_order(power: float) -> None:
    maps = random_maps()
    sharp = MapTransform("sharp", power)(maps)
    assert (np.sign(sharp) == np.sign(maps)).all()
    assert (np.argsort(sharp.reshape(3, -1)) == np.argsort(maps.reshape(3, -1))).all()
    assert np.allclose(np.abs(sharp).max(axis=(1, 2, 3)), 1)


def test_sharpening_does_not_depend_on_scale_and_one_only_scales() -> None:
    maps = random_maps()
    assert np.allclose(MapTransform("sharp", 2)(maps), MapTransform("sharp", 2)(maps * 1e30))
    unit = MapTransform("sharp", 1)(maps)
    assert np.allclose(unit * np.abs(maps).max(axis=(1, 2, 3), keepdims=True), maps)


def test_names_are_short_and_in_the_order_of_the_fields() -> None:
    transforms = build_transforms((2.0, 0.5), (8,), (1.5,))
    assert [transform.name for transform in transforms] == ["smooth2", "smooth0.5", "grid8", "sharp1.5"]
    assert transforms[2].describe() == {
        "name": "grid8",
        "title": "averaged on a grid of 8 x 8",
        "kind": "grid",
        "value": 8.0,
    }
    assert build_transforms((), (), ()) == []

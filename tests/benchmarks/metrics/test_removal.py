from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.metrics.removal import (
    area_under,
    features_in_step,
    fill_values,
    group_order,
    nearest_divisor,
    patch_labels,
    patch_side,
    patch_sums,
    pearson,
    pixel_order,
)
from interp_core.errors import ContractError


class TestSteps:
    @pytest.mark.parametrize(
        ("shape", "expected"),
        [((3, 64, 64), 512), ((3, 224, 224), 6272), ((3, 32, 32), 128), ((1, 28, 28), 28), ((1, 64, 64), 128)],
    )
    def test_features_in_step(self, shape: tuple[int, ...], expected: int) -> None:
        assert features_in_step(shape, 24) == expected

    @pytest.mark.slow
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_every_multiple_of_eight_can_be_cut(self, channels: int) -> None:
        for side in range(8, 520, 8):
            step = features_in_step((channels, side, side), 24)
            assert side * side % step == 0
            assert 12 <= channels * side * side / step <= 48
            assert patch_side((channels, side, side), 8) == side // 8

    @pytest.mark.parametrize(("shape", "side"), [((3, 28, 28), 4), ((3, 299, 299), 23), ((3, 48, 64), 8)])
    def test_patch_side(self, shape: tuple[int, ...], side: int) -> None:
        assert patch_side(shape, 8) == side

    @pytest.mark.parametrize("side", [37, 331])
    def test_sides_that_cannot_be_cut_are_an_error_that_says_so(self, side: int) -> None:
        with pytest.raises(ContractError, match=f"{side} x {side}.*multiple of 8"):
            patch_side((3, side, side), 8)
        with pytest.raises(ContractError, match=f"{side} x {side}.*multiple of 8"):
            features_in_step((3, side, side), 24)

    def test_nearest_divisor(self) -> None:
        assert [nearest_divisor(12, target) for target in (1, 5, 12, 24)] == [1, 6, 12, 12]
        assert nearest_divisor(13, 4) is None


class TestOrders:
    def test_pixels_by_hand(self) -> None:
        maps = np.array([[[[3.0, -1.0], [0.0, 9.0]]]])
        assert pixel_order(maps).ravel().tolist() == [1, 3, 2, 0]
        assert pixel_order(maps, least_first=True).ravel().tolist() == [2, 0, 1, 3]

    def test_patches_by_hand(self) -> None:
        labels = patch_labels(4, 4, 2)
        assert labels[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
        maps = np.zeros((1, 1, 4, 4))
        maps[0, 0, 0, 3], maps[0, 0, 2, 0], maps[0, 0, 3, 3] = 5, 7, 1
        sums = patch_sums(maps, 2)
        assert sums.tolist() == [[0, 5, 7, 1]]
        assert group_order(sums, labels)[0, 0, ::2, ::2].tolist() == [[3, 1], [0, 2]]
        assert group_order(sums, labels, least_first=True)[0, 0, ::2, ::2].tolist() == [[0, 2], [3, 1]]

    def test_rows_that_are_not_square(self) -> None:
        labels = patch_labels(4, 6, 2)
        assert labels.max() == 5
        assert (np.bincount(labels.ravel()) == 4).all()


class TestHelpers:
    def test_area(self) -> None:
        curves = np.array([[1.0, 1.0, 1.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
        assert area_under(curves).tolist() == [1.0, 0.5, 0.25]

    def test_pearson_is_scipys(self) -> None:
        a, b = np.random.default_rng(0).standard_normal((2, 5, 20))
        assert np.allclose(pearson(a, b), [stats.pearsonr(x, y)[0] for x, y in zip(a, b, strict=True)])

    def test_a_constant_row_has_no_correlation(self) -> None:
        assert np.isnan(pearson(np.ones((1, 4)), np.arange(4.0)[None])).all()

    def test_fills(self) -> None:
        images = np.zeros((1, 2, 32, 32), np.float32)
        images[0, 0, 16, 16] = 1
        assert not fill_values(images, "mean").any()
        blurred = fill_values(images, "blur")
        assert np.isclose(blurred.sum(), 1, atol=1e-5)
        assert blurred[0, 0].max() == blurred[0, 0, 16, 16] < 0.1
        assert not blurred[0, 1].any()

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.metrics import Batch, metrics
from interp_core.errors import ContractError

NAMES = ["relevance_mass_accuracy", "relevance_rank_accuracy", "pointing_game", "auc"]
SIDE = 32


def case(maps: np.ndarray, masks: np.ndarray, seed: int = 0) -> Batch:
    images = np.zeros((len(maps), 3, *maps.shape[-2:]), np.float32)
    return Batch(None, images, np.zeros(len(maps), np.int64), maps.astype(np.float32), masks, seed=seed)


def blobs(n: int, seed: int = 0) -> np.ndarray:
    """Build masks with a rectangle of random position and size each."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, 1, SIDE, SIDE), bool)
    for mask in masks:
        row, column, height, width = rng.integers([0, 0, 6, 6], [16, 16, 16, 16])
        mask[0, row : row + height, column : column + width] = True
    return masks


def score(name: str, batch: Batch) -> np.ndarray:
    return metrics[name]()(batch)[name]


@pytest.mark.parametrize("name", NAMES)
class TestAll:
    def test_the_mask_itself_scores_one(self, name: str) -> None:
        masks = blobs(4)
        assert np.allclose(score(name, case(masks, masks)), 1, atol=1e-12)

    def test_all_but_mass_are_blind_to_an_offset(self, name: str) -> None:
        masks = blobs(4)
        assert (score(name, case(masks + 1000, masks)) == 1).all() == (name != "relevance_mass_accuracy")

    def test_the_inverted_mask_scores_zero(self, name: str) -> None:
        masks = np.zeros((2, 1, SIDE, SIDE), bool)
        masks[..., :10, :10] = True
        assert np.array_equal(score(name, case(~masks, masks)), [0, 0])
        assert np.array_equal(score(name, case(-1.0 * masks, masks)), [0, 0])

    def test_noise_scores_chance(self, name: str) -> None:
        masks = blobs(300)
        maps = np.random.default_rng(5).random(masks.shape)
        values = score(name, case(maps, masks))
        chance = 0.5 if name == "auc" else masks.mean()
        assert abs(values.mean() - chance) < 4 * values.std() / np.sqrt(len(values)) + 1e-3

    def test_empty_masks_give_nan_and_touch_no_other(self, name: str) -> None:
        masks, maps = blobs(4), np.random.default_rng(0).standard_normal((4, 1, SIDE, SIDE))
        holed = masks.copy()
        holed[1] = False
        values, expected = score(name, case(maps, holed)), score(name, case(maps, masks))
        assert np.isnan(values).tolist() == [False, True, False, False]
        assert np.array_equal(values[[0, 2, 3]], expected[[0, 2, 3]])
        assert np.isnan(score(name, case(maps, np.zeros_like(masks)))).all()

    def test_an_empty_mask_is_nan_for_a_degenerate_map_too(self, name: str) -> None:
        masks = np.zeros((1, 1, SIDE, SIDE), bool)
        assert np.isnan(score(name, case(np.zeros(masks.shape), masks))).all()

    def test_an_image_alone_scores_as_in_company(self, name: str) -> None:
        masks, maps = blobs(6), np.random.default_rng(0).standard_normal((6, 1, SIDE, SIDE))
        batch, metric = case(maps, masks), metrics[name]()
        together = metric.score(batch)[name]
        alone = [metric.score(case(maps[i : i + 1], masks[i : i + 1]))[name][0] for i in range(6)]
        assert np.array_equal(together, alone)

    def test_integer_masks_are_read_as_bool(self, name: str) -> None:
        masks, maps = blobs(3), np.random.default_rng(0).standard_normal((3, 1, SIDE, SIDE))
        assert np.array_equal(score(name, case(maps, masks.astype(np.uint8))), score(name, case(maps, masks)))

    @pytest.mark.parametrize("shape", [(3, SIDE, SIDE), (3, 1, 8, 8), (2, 1, SIDE, SIDE), (3, 3, SIDE, SIDE)])
    def test_masks_of_a_wrong_shape_are_refused(self, name: str, shape: tuple[int, ...]) -> None:
        with pytest.raises(ContractError, match="masks must be"):
            score(name, replace(case(blobs(3), blobs(3)), masks=np.ones(shape, bool)))

    def test_masks_that_are_no_masks_are_refused(self, name: str) -> None:
        with pytest.raises(ContractError, match="0 and 1"):
            score(name, case(blobs(3), blobs(3) * 0.5))


class TestMassAccuracy:
    def test_by_hand(self) -> None:
        maps, masks = np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 4, 4), bool)
        maps[0, 0, 0] = [3, 1, -5, 0]
        masks[0, 0, 0, 0] = True
        assert np.allclose(score("relevance_mass_accuracy", case(maps, masks)), 0.75, atol=1e-4)

    def test_a_single_pixel_in_a_large_image_is_not_drowned_by_jitter(self) -> None:
        maps, masks = np.zeros((1, 1, 224, 224)), np.zeros((1, 1, 224, 224), bool)
        maps[..., 10, 10], masks[..., 10, 10] = 1, True
        assert score("relevance_mass_accuracy", case(maps, masks)) == 1

    def test_maps_without_positive_part_score_zero_beside_others(self) -> None:
        masks = blobs(2)
        maps = np.concatenate([masks[:1], masks[1:] - 1.0])
        assert np.array_equal(score("relevance_mass_accuracy", case(maps, masks)), [1, 0])


class TestPointingGame:
    def test_a_plateau_hits_as_often_as_it_lies_in_the_mask(self) -> None:
        masks, maps = np.zeros((400, 1, 8, 8), bool), np.zeros((400, 1, 8, 8))
        masks[..., :4, :4] = True
        maps[..., :8, :4] = 1
        hits = score("pointing_game", case(maps, masks))
        assert set(hits) == {0, 1}
        assert abs(hits.mean() - 0.5) < 0.1

    def test_one_pixel_decides(self) -> None:
        masks = np.zeros((2, 1, 4, 4), bool)
        masks[:, :, 1, 2] = True
        maps = np.full((2, 1, 4, 4), 0.9)
        maps[0, 0, 1, 2] = maps[1, 0, 1, 1] = 1
        assert score("pointing_game", case(maps, masks)).tolist() == [1, 0]

    def test_a_map_without_positive_part_points_nowhere(self) -> None:
        masks = blobs(1)
        assert score("pointing_game", case(masks - 1.0, masks)) == 0
        assert score("pointing_game", case(masks - 2.0, masks)) == 0


class TestOrder:
    def test_rank_accuracy_by_hand(self) -> None:
        masks = np.zeros((1, 1, 2, 4), bool)
        masks[0, 0, 0] = True
        maps = np.array([[[[9.0, 8.0, 5.0, -3.0], [7.0, 1.0, 0.0, 2.0]]]])
        assert np.allclose(score("relevance_rank_accuracy", case(maps, masks)), 3 / 4)

    def test_negative_values_keep_their_order(self) -> None:
        masks = blobs(3)
        maps = -1.0 - ~masks
        assert np.allclose(score("relevance_rank_accuracy", case(maps, masks)), 1)
        assert np.allclose(score("auc", case(maps, masks)), 1)

    def test_auc_agrees_with_scikit_learn(self) -> None:
        masks, maps = blobs(5), np.random.default_rng(2).standard_normal((5, 1, SIDE, SIDE))
        maps += 0.7 * masks
        expected = [roc_auc_score(mask.ravel(), image.ravel()) for mask, image in zip(masks, maps, strict=True)]
        assert np.allclose(score("auc", case(maps, masks)), expected, atol=1e-3)

    def test_a_mask_over_everything_has_no_auc(self) -> None:
        masks, maps = blobs(2), np.random.default_rng(2).random((2, 1, SIDE, SIDE))
        masks[0] = True
        assert np.isnan(score("auc", case(maps, masks))).tolist() == [True, False]
        assert score("relevance_rank_accuracy", case(maps, masks))[0] == 1

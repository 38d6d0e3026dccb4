from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.cases import linear_case, net_case, patch_case
from scipy import stats

from benchmarks.metrics.correlation import (
    FaithfulnessCorrelation,
    FaithfulnessEstimate,
    Infidelity,
    SingleDeletion,
    random_subsets,
    residual_share,
)
from benchmarks.metrics.removal import patch_sums
from interp_core.errors import ContractError


class TestFaithfulnessCorrelation:
    @pytest.mark.slow
    def test_the_exact_map_of_a_linear_network_correlates_perfectly(self) -> None:
        case = linear_case()
        values = FaithfulnessCorrelation(runs=40)(case)["faithfulness_correlation"]
        turned = FaithfulnessCorrelation(runs=40)(replace(case, maps=-case.maps))["faithfulness_correlation"]
        assert np.allclose(values, 1, atol=1e-4)
        assert np.allclose(turned, -1, atol=1e-4)

    def test_maps_with_negative_values_only_are_scored(self) -> None:
        case = linear_case()
        values = FaithfulnessCorrelation(runs=20)(replace(case, maps=case.maps - 100))["faithfulness_correlation"]
        assert np.allclose(values, 1, atol=1e-4)

    def test_it_reads_logits(self) -> None:
        """With saturated probabilities the correlation would not be perfect."""
        case = linear_case(scale=5)
        assert np.allclose(FaithfulnessCorrelation(runs=40)(case)["faithfulness_correlation"], 1, atol=1e-4)

    def test_an_unmoved_logit_is_nan_for_that_image_only(self) -> None:
        case = linear_case()
        images = case.images.copy()
        images[2] = 0
        values = FaithfulnessCorrelation(runs=20)(replace(case, images=images))["faithfulness_correlation"]
        assert np.isnan(values).tolist() == [False, False, True, False]
        assert np.allclose(values[[0, 1, 3]], 1, atol=1e-4)

    def test_noise_is_near_zero(self) -> None:
        case = linear_case(40)
        maps = np.random.default_rng(3).standard_normal(case.maps.shape).astype(np.float32)
        values = FaithfulnessCorrelation(runs=40)(replace(case, maps=maps))["faithfulness_correlation"]
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))

    @pytest.mark.slow
    def test_the_seed_decides(self) -> None:
        case = net_case(3)
        metric = FaithfulnessCorrelation(runs=10)
        first, repeated, reseeded = (metric(replace(case, seed=s))["faithfulness_correlation"] for s in (1, 1, 2))
        assert np.array_equal(first, repeated)
        assert not np.array_equal(first, reseeded)

    def test_subsets_quantus_does_not_allow_are_refused_there(self) -> None:
        metric = FaithfulnessCorrelation(subset_share=0.5, engine="quantus")
        with pytest.raises(ContractError, match="subset_size"):
            metric(linear_case(2, 3))

    def test_subsets_have_no_feature_twice_and_depend_on_the_seed(self) -> None:
        subsets = random_subsets(3, 50, 10, 4, seed=1)
        assert subsets.shape == (3, 4, 10)
        assert all(len(set(subset)) == 10 for subset in subsets.reshape(-1, 10).tolist())
        assert np.array_equal(subsets, random_subsets(3, 50, 10, 4, seed=1))
        assert not np.array_equal(subsets, random_subsets(3, 50, 10, 4, seed=2))


class TestFaithfulnessEstimate:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_exact_map_of_a_linear_network_correlates_perfectly(self, channels: int) -> None:
        case = linear_case(channels=channels, side=24)
        value = FaithfulnessEstimate()(case)["faithfulness_estimate"]
        turned = FaithfulnessEstimate()(replace(case, maps=-case.maps))["faithfulness_estimate"]
        assert np.allclose(value, 1, atol=1e-3)
        assert np.allclose(turned, -1, atol=1e-3)


class TestSingleDeletion:
    def test_it_is_scipys_rank_correlation_with_the_drops_of_a_linear_network(self) -> None:
        case = linear_case(3, 3)
        noisy = case.maps + np.random.default_rng(2).standard_normal(case.maps.shape).astype(np.float32)
        correlations = SingleDeletion()(replace(case, maps=noisy))["single_deletion"]
        pairs = zip(patch_sums(noisy, 2), patch_sums(case.maps, 2), strict=True)
        assert np.allclose(correlations, [stats.spearmanr(a, b)[0] for a, b in pairs], atol=1e-4)

    def test_the_exact_map_is_best(self) -> None:
        assert np.allclose(SingleDeletion()(linear_case())["single_deletion"], 1, atol=1e-3)


class TestInfidelity:
    def test_by_hand(self) -> None:
        drops = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [1.0, 2.0]])
        sums = np.array([[5.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [2.0, 4.0]])
        assert np.allclose(residual_share(drops, sums), [0, 0.5, 1, 0])

    def test_the_weights_of_a_linear_network_explain_everything_at_any_scale(self) -> None:
        case = linear_case(3)
        assert case.model is not None
        weight = case.model.weight.detach().numpy()  # type: ignore[union-attr, operator]
        maps = np.repeat(weight[None], 3, 0) * 1000
        assert np.allclose(Infidelity()(replace(case, maps=maps))["infidelity"], 0, atol=1e-4)
        assert np.allclose(Infidelity()(replace(case, maps=-maps))["infidelity"], 1, atol=1e-4)

    def test_a_map_of_the_one_region_that_counts_explains_everything(self) -> None:
        assert np.allclose(Infidelity()(patch_case())["infidelity"], 0, atol=1e-4)

    @pytest.mark.slow
    def test_noise_explains_little(self) -> None:
        values = Infidelity()(net_case(4))["infidelity"]
        assert ((values > 0.5) & (values <= 1)).all()

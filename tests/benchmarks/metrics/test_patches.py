from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cases import linear_case, net_case, patch_case, square_case

from benchmarks.metrics import metrics
from benchmarks.metrics.patches import Irof, RegionPerturbation, Selectivity, segment_means, superpixels


class TestRegionPerturbation:
    @pytest.mark.parametrize("side", [16, 64])
    def test_known_drops_of_a_network_that_looks_at_one_region(self, side: int) -> None:
        case, gain = patch_case(side), 1 / (1 + np.exp(-4)) - 0.5
        right, wrong = RegionPerturbation()(case), RegionPerturbation()(replace(case, maps=-case.maps))
        assert np.allclose(right["region_perturbation_morf"], gain, atol=1e-6)
        assert np.allclose(right["region_perturbation_lerf"], gain / 64, atol=1e-6)
        assert np.allclose(right["region_perturbation"], gain * 63 / 64, atol=1e-6)
        assert np.allclose(wrong["region_perturbation"], -gain * 63 / 64, atol=1e-6)

    def test_all_regions_are_removed_and_the_order_is_by_sums(self) -> None:
        case = linear_case(2, 3)
        sums = case.maps.reshape(2, 8, 2, 8, 2).sum((2, 4)).reshape(2, -1)
        curve = RegionPerturbation().probabilities(case)
        drops = curve[:, :1] - curve[:, 1:]
        assert drops.shape == (2, 64)
        logits = case.maps.sum((1, 2, 3))[:, None] - np.cumsum(-np.sort(-sums, 1), 1)
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        assert np.allclose(drops, curve[:, :1] - probability, atol=1e-4)

    def test_maps_with_negative_values_only_are_scored_by_their_order(self) -> None:
        case = linear_case()
        shifted = RegionPerturbation()(replace(case, maps=case.maps - 100))
        values = RegionPerturbation()(case)
        assert all(np.allclose(values[key], shifted[key], atol=1e-3) for key in values)

    @pytest.mark.slow
    def test_selectivity_is_another_reading(self) -> None:
        case = net_case(3)
        curve = RegionPerturbation().probabilities(case)
        drop = RegionPerturbation()(case)["region_perturbation_morf"]
        assert np.allclose(Selectivity()(case)["selectivity"], curve[:, 0] - drop)


class TestIrof:
    def test_superpixels_fill_the_image(self) -> None:
        labels = superpixels(net_case(2).images)
        assert labels.shape == (2, 1, 32, 32)
        assert all(np.array_equal(np.unique(row), np.arange(row.max() + 1)) for row in labels)

    def test_means_of_segments_and_those_an_image_has_not(self) -> None:
        maps = np.array([[[[1.0, 3.0], [5.0, 5.0]]], [[[1.0, 2.0], [3.0, 4.0]]]])
        labels = np.array([[[[0, 0], [1, 1]]], [[[0, 1], [2, 2]]]])
        assert segment_means(maps, labels, False).tolist() == [[2, 5, -np.inf], [1, 2, 3.5]]
        assert segment_means(maps, labels, True)[0, 2] == np.inf

    def test_all_is_lost_at_once_where_the_first_superpixel_is_all_there_is(self) -> None:
        """A probability of one half is left of nearly one when the evidence goes, first or last of all."""
        case = square_case(2)
        values = Irof()(case)
        assert (values["irof_morf"] > values["irof_lerf"]).all()
        turned = Irof()(replace(case, maps=-case.maps))
        assert np.allclose(turned["irof"], -values["irof"], atol=0.02)

    @pytest.mark.slow
    def test_an_image_alone_scores_as_in_company(self) -> None:
        case = net_case(3)
        together = Irof().score(case)["irof"]
        for i in range(3):
            part = slice(i, i + 1)
            alone = replace(case, images=case.images[part], targets=case.targets[part], maps=case.maps[part])
            assert np.allclose(Irof().score(alone)["irof"], together[i], atol=1e-6)


class TestNetwork:
    @pytest.mark.parametrize("name", ["pixel_flipping", "region_perturbation"])
    def test_an_image_alone_scores_as_in_company(self, name: str) -> None:
        case, metric = net_case(), metrics[name]()
        together = metric.score(case)
        for i in range(len(case.maps)):
            part = replace(
                case, images=case.images[i : i + 1], targets=case.targets[i : i + 1], maps=case.maps[i : i + 1]
            )
            alone = metric.score(part)
            assert all(np.allclose(together[key][i], alone[key][0], atol=1e-6) for key in together)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["pixel_flipping", "region_perturbation", "faithfulness_correlation"])
    def test_nothing_of_the_network_changes(self, name: str) -> None:
        case = net_case(2)
        assert case.model is not None
        before = {key: value.clone() for key, value in case.model.state_dict().items()}
        modules = [(id(module), type(module), module.training) for module in case.model.modules()]
        hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in case.model.modules())
        metrics[name]()(case)
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())
        assert modules == [(id(module), type(module), module.training) for module in case.model.modules()]
        assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in case.model.modules())
        assert all(p.requires_grad and p.grad is None for p in case.model.parameters())

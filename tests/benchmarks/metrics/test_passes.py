from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cases import linear_case, net_case
from torch import Tensor, nn

from benchmarks.metrics import Batch, metrics
from benchmarks.metrics.passes import Passes
from benchmarks.metrics.removal import pixel_order
from interp_core.errors import ContractError


def passes(case: Batch, batch_size: int | None = None) -> Passes:
    assert case.model is not None
    return Passes(case.model, case.images, case.targets, batch_size=batch_size)


class TestOutputs:
    @pytest.mark.slow
    def test_nothing_and_everything_removed_are_the_ends(self) -> None:
        case = net_case(3)
        outputs = passes(case).run_removals(pixel_order(case.maps), [0, 500, 1024], "mean")
        assert case.model is not None
        with torch.no_grad():
            clean = case.model(torch.from_numpy(case.images))
            blank = case.model(torch.zeros(1, *case.images.shape[1:]))
        rows = np.arange(3)
        assert np.allclose(outputs.logits[:, 0], clean[rows, case.targets], atol=1e-5)
        assert np.allclose(outputs.logits[:, 2], blank[0, case.targets], atol=1e-5)
        assert np.allclose(outputs.probabilities[:, 0], clean.softmax(1)[rows, case.targets], atol=1e-6)
        assert np.array_equal(outputs.hits[:, 0], clean.argmax(1).numpy() == case.targets)

    @pytest.mark.slow
    def test_of_several_classes_each_is_decided_for_itself(self) -> None:
        case = net_case(3)
        assert case.model is not None
        outputs = Passes(case.model, case.images, case.targets, multi_label=True).run_clean()
        with torch.no_grad():
            logits = case.model(torch.from_numpy(case.images))[np.arange(3), case.targets]
        assert np.allclose(outputs.logits[:, 0], logits, atol=1e-5)
        assert np.allclose(outputs.probabilities[:, 0], logits.sigmoid(), atol=1e-6)
        assert np.array_equal(outputs.hits[:, 0], logits.numpy() > 0)

    @pytest.mark.slow
    @pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 24, 1000])
    def test_blocks_of_any_size_give_the_same(self, batch_size: int) -> None:
        case = net_case(5)
        order, counts = pixel_order(case.maps), range(0, 3073, 256)
        expected = passes(case).run_removals(order, counts, "blur", by_channel=True)
        outputs = passes(case, batch_size).run_removals(order, counts, "blur", by_channel=True)
        assert np.allclose(outputs.logits, expected.logits, atol=1e-5)
        assert np.array_equal(outputs.hits, expected.hits)

    def test_blocks_are_not_larger_than_the_batch_size(self) -> None:
        case, sizes = linear_case(5), []

        class Recording(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                if not torch.compiler.is_compiling():
                    sizes.append(len(images))
                return torch.stack([images.sum((1, 2, 3)), images.mean((1, 2, 3))], 1) + torch.rand(()) * 0

        recorded = passes(replace(case, model=Recording().eval()), 7)
        recorded.network.module = recorded.network.model
        sizes.clear()
        recorded.run_removals(pixel_order(case.maps), range(20), "mean")
        assert max(sizes) <= 7
        assert sum(sizes) == recorded.forwards == 5 * 19 + 5

    def test_removal_from_one_at_a_time(self) -> None:
        case = linear_case(2)
        labels = np.arange(256).reshape(1, 1, 16, 16)
        shared = passes(case)
        drops = shared.run_clean().logits - shared.run_single_removals(labels, 256, "mean").logits
        assert np.allclose(drops, case.maps.reshape(2, -1), atol=1e-4)


class TestSharing:
    @pytest.mark.slow
    def test_images_are_not_run_again(self) -> None:
        case = net_case(3)
        shared = passes(case)
        batch = replace(case, passes=shared)
        metrics["pixel_flipping"]()(batch)
        pixel_forwards = shared.forwards
        metrics["deletion"]()(batch)
        metrics["insertion"](fill="mean")(batch)
        assert shared.forwards == pixel_forwards
        metrics["region_perturbation"]()(batch)
        patch_forwards = shared.forwards
        metrics["selectivity"]()(batch)
        assert shared.forwards == patch_forwards

    @pytest.mark.slow
    def test_subsets_and_patches_serve_every_map(self) -> None:
        case = net_case(3)
        shared = passes(case)
        for name in ("faithfulness_correlation", "single_deletion", "infidelity"):
            metrics[name]()(replace(case, passes=shared))
        forwards = shared.forwards
        negative = replace(case, passes=shared, maps=-case.maps)
        for name in ("faithfulness_correlation", "single_deletion", "infidelity"):
            metrics[name]()(negative)
        assert shared.forwards == forwards

    @pytest.mark.slow
    def test_forwards_are_as_many_as_there_are_different_images(self) -> None:
        case = net_case(4)
        shared = passes(case)
        metrics["pixel_flipping"]()(replace(case, passes=shared))
        assert shared.forwards == 4 + 1 + 2 * 4 * 23  # themselves, nothing at all, and between

    @pytest.mark.slow
    @pytest.mark.parametrize("name", [n for n, cls in metrics.items() if cls.needs_model and not cls.needs_explain])
    def test_shared_passes_change_no_score(self, name: str) -> None:
        case = net_case(3)
        shared = passes(case)
        for earlier in ("pixel_flipping", "single_deletion"):
            metrics[earlier]()(replace(case, passes=shared, maps=-case.maps))
        alone, together = metrics[name]()(case), metrics[name]()(replace(case, passes=shared))
        for key in alone:
            assert np.allclose(alone[key], together[key], atol=1e-6, equal_nan=True)


class TestRefusals:
    def test_a_network_in_training_mode(self) -> None:
        case = net_case(2)
        assert case.model is not None
        case.model.train()
        with pytest.raises(ContractError, match="evaluation mode"):
            passes(case)

    @pytest.mark.slow
    @pytest.mark.parametrize("targets", [[0, 9], [0, -1], [0, 1, 1]])
    def test_targets_it_has_not(self, targets: list[int]) -> None:
        case = replace(net_case(2), targets=np.array(targets))
        with pytest.raises(ContractError, match="targets"):
            passes(case).run_clean()

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from helpers.cases import linear_case, net_case
from torch import Tensor, nn

import interp_core
from benchmarks.metrics import Batch, metrics
from benchmarks.metrics.batched_network import single_threaded_pool
from benchmarks.metrics.flat_network import flat_network_of
from benchmarks.metrics.passes import Passes
from benchmarks.metrics.removal import pixel_order
from interp_core.backbone.flat_graph import TOLERANCE
from interp_core.errors import ContractError
from interp_core.training import initialise_attention


def passes(case: Batch, batch_size: int | None = None) -> Passes:
    assert case.model is not None
    return Passes(case.model, case.images, case.targets, batch_size=batch_size)


class TestOutputs:
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

    def test_of_several_classes_each_is_decided_for_itself(self) -> None:
        case = net_case(3)
        assert case.model is not None
        outputs = Passes(case.model, case.images, case.targets, multi_label=True).run_clean()
        with torch.no_grad():
            logits = case.model(torch.from_numpy(case.images))[np.arange(3), case.targets]
        assert np.allclose(outputs.logits[:, 0], logits, atol=1e-5)
        assert np.allclose(outputs.probabilities[:, 0], logits.sigmoid(), atol=1e-6)
        assert np.array_equal(outputs.hits[:, 0], logits.numpy() > 0)

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
                if not torch.compiler.is_exporting():
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


class TestWorkers:
    """Batches that run at once, one thread each."""

    @pytest.fixture(autouse=True)
    def _threads(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        yield
        torch.set_num_threads(before)

    def test_any_number_gives_the_same(self) -> None:
        case = net_case(5)
        order, outputs = pixel_order(case.maps), []
        for workers in (1, 2, 3):
            shared = passes(case, 7)
            shared.network.workers = workers
            outputs.append(shared.run_removals(order, range(0, 3073, 128), "blur", by_channel=True))
            assert shared.forwards == 5 * 23 + 5 + 5
        for output in outputs[1:]:
            assert np.allclose(output.logits, outputs[0].logits, atol=1e-5)
            assert np.array_equal(output.hits, outputs[0].hits)

    def test_as_many_as_threads_for_a_graph_and_one_for_the_network_itself(self) -> None:
        case = net_case(2)
        assert passes(case).network.workers == 3
        unchanged = passes(case).network
        unchanged.module = unchanged.model
        assert unchanged.workers == 1

    def test_the_callers_threads_stay(self) -> None:
        passes(net_case(2)).run_removals(pixel_order(net_case(2).maps), range(0, 1024, 16), "mean")
        assert torch.get_num_threads() == 3
        assert list(single_threaded_pool(3).map(lambda _: torch.get_num_threads(), range(9))) == [1] * 9

    def test_an_error_in_one_reaches_the_caller(self) -> None:
        def broken(rows: slice, versions: slice) -> Tensor:
            raise ValueError(f"row {rows.start}")

        with pytest.raises(ValueError, match="row 0"):
            passes(net_case(2)).run("broken", 4, broken)


class TestSharing:
    def test_what_was_asked_for_is_not_run_again(self) -> None:
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

    def test_forwards_are_as_many_as_there_are_different_images(self) -> None:
        case = net_case(4)
        shared = passes(case)
        metrics["pixel_flipping"]()(replace(case, passes=shared))
        assert shared.forwards == 4 + 1 + 2 * 4 * 23  # themselves, nothing at all, and between

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

    @pytest.mark.parametrize("targets", [[0, 9], [0, -1], [0, 1, 1]])
    def test_targets_it_has_not(self, targets: list[int]) -> None:
        case = replace(net_case(2), targets=np.array(targets))
        with pytest.raises(ContractError, match="targets"):
            passes(case).run_clean()


class TestFlatNetwork:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "name", ["test_resnet", "test_efficientnet", "test_convnext", "resnet18", "mobilenetv3_small_050"]
    )
    @pytest.mark.parametrize("lap", [False, True])
    def test_the_same_function(self, name: str, lap: bool) -> None:
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=5)
        images = torch.randn(4, 3, 64, 64)
        model.train()(images)  # batch norms that are not at their start
        model.eval()
        if lap:
            model = interp_core.attach(model, image_size=64)
            initialise_attention(model, 1.0)
            model.eval()
        graph = flat_network_of(model, images[:1])
        with torch.no_grad():
            expected, logits = model(images), graph(images)
        assert graph is not model
        assert (expected - logits).abs().max() <= 3 * TOLERANCE * expected.abs().max()
        assert not any("batch_norm" in str(node.target) for node in graph.graph.nodes)  # type: ignore[union-attr]

    def test_the_network_stays_as_it_was(self) -> None:
        model = timm.create_model("test_resnet").eval()
        before = [(id(p), p._version, p.requires_grad, p.stride(), p.is_inference()) for p in model.parameters()]
        assert flat_network_of(model, torch.zeros(1, 3, 32, 32)) is not model
        assert before == [
            (id(p), p._version, p.requires_grad, p.stride(), p.is_inference()) for p in model.parameters()
        ]

    def test_made_once_and_again_when_weights_change(self) -> None:
        model, image = timm.create_model("test_resnet").eval(), torch.zeros(1, 3, 32, 32)
        first = flat_network_of(model, image)
        assert flat_network_of(model, image) is first
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        assert flat_network_of(model, image) is not first

    def test_nothing_is_kept_of_a_network_that_is_gone(self) -> None:
        model = timm.create_model("test_resnet").eval()
        reference = weakref.ref(model)
        flat_network_of(model, torch.zeros(1, 3, 32, 32))
        del model
        gc.collect()
        assert reference() is None

    def test_a_network_that_cannot_be_written_down_is_used_as_it_is(self) -> None:
        class Odd(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                value = images.sum((1, 2, 3))
                return torch.stack([value, -value], 1) if float(value.sum()) > 0 else torch.stack([-value, value], 1)

        model = Odd().eval()
        assert flat_network_of(model, torch.zeros(1, 3, 8, 8)) is model

    def test_a_graph_that_is_another_function_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Doubled(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, images: Tensor) -> Tensor:
                return 2 * self.inner(images)

        monkeypatch.setattr("interp_core.backbone.flat_graph.fold_norms", Doubled)
        model = timm.create_model("test_resnet").eval()
        assert flat_network_of(model, torch.zeros(1, 3, 32, 32)) is model

from __future__ import annotations

import gc
import weakref

import pytest
import timm
import torch
from torch import Tensor, nn

import interp_core
from benchmarks.metrics.flat_network import flat_network_of
from interp_core.backbone.flat_graph import TOLERANCE
from interp_core.training import initialise_attention


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

    @pytest.mark.slow
    def test_the_network_stays_as_it_was(self) -> None:
        model = timm.create_model("test_resnet").eval()
        before = [(id(p), p._version, p.requires_grad, p.stride(), p.is_inference()) for p in model.parameters()]
        assert flat_network_of(model, torch.zeros(1, 3, 32, 32)) is not model
        assert before == [
            (id(p), p._version, p.requires_grad, p.stride(), p.is_inference()) for p in model.parameters()
        ]

    @pytest.mark.slow
    def test_made_once_and_again_when_weights_change(self) -> None:
        model, image = timm.create_model("test_resnet").eval(), torch.zeros(1, 3, 32, 32)
        first = flat_network_of(model, image)
        assert flat_network_of(model, image) is first
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        assert flat_network_of(model, image) is not first

    @pytest.mark.slow
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

    @pytest.mark.slow
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

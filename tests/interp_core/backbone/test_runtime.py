from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import Tensor, nn

import interp_core
from interp_core.backbone import openvino_graph, runtime
from interp_core.backbone.flat_graph import flat
from interp_core.backbone.runtime import TOLERANCE, differentiable_network_of, fast_network_of, runtime_of
from interp_core.errors import ContractError
from interp_core.training import initialise_attention

NAMES = ["test_resnet", "test_efficientnet", "test_convnext", "resnet18", "mobilenetv3_small_050"]
needs_openvino = pytest.mark.skipif(not openvino_graph.is_installed(), reason="OpenVINO is not installed")


def small_network(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)
    ).eval()


def trained_network(name: str, *, lap: bool) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5)
    model.train()(torch.randn(4, 3, 64, 64))  # batch norms that are not at their start
    if lap:
        model = interp_core.attach(model, image_size=64)
        initialise_attention(model, 1.0)
    return model.eval()


class Odd(nn.Module):
    """A network whose control flow depends on the pixels."""

    def forward(self, images: Tensor) -> Tensor:
        value = images.sum((1, 2, 3))
        return torch.stack([value, -value], 1) if float(value.sum()) > 0 else torch.stack([-value, value], 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lap", [False, True])
@pytest.mark.parametrize("engine", ["openvino", "flat"])
def test_the_same_function(monkeypatch: pytest.MonkeyPatch, name: str, lap: bool, engine: str) -> None:
    if engine == "openvino" and not openvino_graph.is_installed():
        pytest.skip("OpenVINO is not installed")
    monkeypatch.setenv(runtime.VARIABLE, engine)
    model, images = trained_network(name, lap=lap), torch.randn(5, 3, 64, 64)
    chosen = runtime_of(model, images)
    assert chosen.name == engine
    assert chosen.module is not None
    with torch.no_grad():
        expected = model(images)
        for batch in (images, images.contiguous(memory_format=torch.channels_last), images[:1]):
            difference = (expected[: len(batch)] - chosen.module(batch)).abs().max()
            assert difference <= TOLERANCE * expected.abs().max()


@needs_openvino
def test_several_threads_may_call_it_at_once() -> None:
    model = small_network()
    graph = openvino_graph.convert(model, torch.randn(2, 3, 16, 16))
    batches = list(torch.randn(24, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    with ThreadPoolExecutor(4) as pool, torch.no_grad():
        outputs = list(pool.map(graph, batches))
    with torch.no_grad():
        expected = [model(batch) for batch in batches]
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-4)


@needs_openvino
def test_outputs_are_not_overwritten_by_the_next_call() -> None:
    graph = openvino_graph.convert(small_network(), torch.randn(2, 3, 16, 16))
    first = graph(torch.ones(2, 3, 16, 16))
    before = first.clone()
    graph(-torch.ones(2, 3, 16, 16))
    assert torch.equal(first, before)


def test_the_network_stays_as_it_was() -> None:
    model = small_network()
    before = [(id(p), p._version, p.requires_grad, p.stride(), p.is_inference()) for p in model.parameters()]
    assert fast_network_of(model, torch.zeros(1, 3, 16, 16)) is not model
    assert before == [(id(p), p._version, p.requires_grad, p.stride(), p.is_inference()) for p in model.parameters()]


def test_chosen_once_and_again_when_weights_change() -> None:
    model, image = small_network(), torch.zeros(1, 3, 16, 16)
    first = fast_network_of(model, image)
    assert fast_network_of(model, image) is first
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    assert fast_network_of(model, image) is not first


def test_nothing_is_kept_of_a_network_that_is_gone() -> None:
    model = small_network()
    reference = weakref.ref(model)
    fast_network_of(model, torch.zeros(1, 3, 16, 16))
    del model
    gc.collect()
    assert reference() is None


def test_a_network_that_no_engine_takes_runs_itself() -> None:
    model = Odd().eval()
    chosen = runtime_of(model, torch.zeros(1, 3, 8, 8))
    assert chosen.name == "network"
    assert set(chosen.refused) == {"openvino", "flat"}
    assert not openvino_graph.is_installed() or "control flow" in chosen.refused["openvino"]
    assert fast_network_of(model, torch.zeros(1, 3, 8, 8)) is model


@needs_openvino
def test_an_engine_that_differs_on_the_first_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise never reaches what the engine gets wrong, the images that are given do."""

    class Clipped(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images.clamp(max=8))

    convert = openvino_graph.convert
    monkeypatch.setattr(openvino_graph, "convert", lambda model, images: convert(Clipped(model), images))
    assert runtime_of(small_network(), torch.zeros(1, 3, 16, 16)).name == "openvino"
    chosen = runtime_of(small_network(), torch.full((1, 3, 16, 16), 90.0))
    assert chosen.refused["openvino"] == "its logits differ"


def test_a_network_in_double_precision_is_not_for_openvino() -> None:
    model, images = small_network().double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    chosen = runtime_of(model, images)
    assert chosen.name == "flat"
    assert chosen.module is not None
    with torch.no_grad():
        torch.testing.assert_close(chosen.module(images), model(images))


def test_images_are_not_changed_by_a_network_that_works_in_place() -> None:
    class InPlace(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mul_(2).mean((2, 3))

    images = torch.ones(2, 3, 8, 8)
    module = fast_network_of(InPlace().eval(), images)
    assert torch.equal(images, torch.ones(2, 3, 8, 8))
    torch.testing.assert_close(module(images.clone()), torch.full((2, 3), 2.0))


class TestDifferentiable:
    def test_the_same_gradient_of_the_images(self) -> None:
        model, images = small_network(), torch.randn(3, 3, 16, 16).requires_grad_()
        graph = differentiable_network_of(model, images)
        assert graph is not model
        assert differentiable_network_of(model, images) is graph
        gradients = [torch.autograd.grad(module(images)[:, 1].sum(), images)[0] for module in (model, graph)]
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)

    def test_other_weights_get_another(self) -> None:
        model, image = small_network(), torch.zeros(1, 3, 16, 16)
        first = differentiable_network_of(model, image)
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        assert differentiable_network_of(model, image) is not first

    def test_none_where_engines_are_forbidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(runtime.VARIABLE, "network")
        model = small_network()
        assert differentiable_network_of(model, torch.zeros(1, 3, 16, 16)) is model


@pytest.mark.slow
def test_a_graph_that_is_another_function_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            return 2 * self.inner(images)

    monkeypatch.setattr("interp_core.backbone.flat_graph.fold_norms", Doubled)
    assert flat(small_network(), torch.zeros(1, 3, 16, 16)) is None


class TestVariable:
    @pytest.mark.parametrize("name", ["flat", "network"])
    def test_faster_engines_are_left_out(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(runtime.VARIABLE, name)
        assert runtime_of(small_network(), torch.zeros(1, 3, 16, 16)).name == name

    def test_unknown_names_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(runtime.VARIABLE, "warp")
        with pytest.raises(ContractError, match="warp"):
            runtime_of(small_network(), torch.zeros(1, 3, 16, 16))

"""Networks of a user's own, without timm's protocol: parted by torch.fx with the function kept in both modes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import interp_core
from interp_core.backbone.inspect import inspect_backbone
from interp_core.backbone.partition import PROTOCOL, graph_partition
from interp_core.errors import BackboneError

Snapshot = Callable[[nn.Module], dict[str, Any]]


def body(channels: int = 8) -> list[nn.Module]:
    """From 32 x 32 pixels to 4 x 4 cells."""
    return [
        nn.Conv2d(3, channels, 3, 2, 1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, channels, 3, 2, 1),
        nn.ReLU(),
    ]


def sequential() -> nn.Module:
    return nn.Sequential(*body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


class Own(nn.Module):
    """What the networks below share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.second, self.fc = nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(8, 4)

    def maps(self, images: Tensor) -> Tensor:
        small = F.max_pool2d(F.relu(self.norm(self.first(images))), 2)
        return F.relu(self.second(small))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.maps(images).mean((2, 3)))


class Functional(Own):
    def forward(self, images: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(self.maps(images), 1)
        return self.fc(pooled.view(pooled.shape[0], -1))


class BatchSizeFirst(Own):
    def forward(self, images: Tensor) -> Tensor:
        count = images.shape[0]
        return self.fc(F.avg_pool2d(self.maps(images), 4).view(count, -1))


class Residual(Own):
    def forward(self, images: Tensor) -> Tensor:
        maps = self.maps(images)
        return self.fc(F.relu(maps + self.norm(maps)).mean((2, 3)))


class Wrapped(nn.Module):
    """Normalises images and hands them to a network two modules deeper."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.4))
        self.inner = nn.ModuleDict({"net": Functional()})

    def forward(self, images: Tensor) -> Tensor:
        return self.inner["net"]((images - self.mean) / 0.2)


class Dropped(Own):
    def forward(self, images: Tensor) -> Tensor:
        pooled = F.dropout(self.maps(images).mean((2, 3)), 0.5, self.training)
        return self.fc(pooled)


class DroppedMaps(Own):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(F.dropout2d(self.maps(images), 0.5, self.training).mean((2, 3)))


class OneRelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(self.relu(self.a(images)))
        maps = self.pool(self.relu(self.b(maps)))
        return self.fc(self.pool(self.relu(self.c(maps))).mean((2, 3)))


def fixed_size() -> nn.Module:
    return nn.Sequential(*body(), nn.Flatten(), nn.Linear(8 * 4 * 4, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 4))


class Optional(Own):
    def forward(self, images: Tensor, scale: float = 2.0, *, extra: Tensor | None = None) -> Tensor:
        maps = self.maps(images) * scale
        if extra is not None:
            maps = maps + extra
        return self.fc(maps.mean((2, 3)))


class PooledTwice(Own):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maps(images)
        return self.fc(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))


class Convolved(Own):
    """Logits by a 1x1 convolution before the pooling, as in SqueezeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(8, 4, 1)  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.maps(images)).mean((2, 3))


# With whether the head is linear, and the name of the last layer.
NETS: dict[str, tuple[Callable[[], nn.Module], bool, str | None]] = {
    "sequential": (sequential, True, "8"),
    "functional": (Functional, True, "fc"),
    "batch size first": (BatchSizeFirst, True, "fc"),
    "residual": (Residual, True, "fc"),
    "wrapped": (Wrapped, True, "inner.net.fc"),
    "dropout": (Dropped, True, "fc"),
    "dropout of maps": (DroppedMaps, True, "fc"),
    "one relu": (OneRelu, True, "fc"),
    "fixed size": (fixed_size, False, "10"),
    "optional argument": (Optional, True, "fc"),
    "pooled twice": (PooledTwice, False, "fc"),
    "convolved": (Convolved, False, None),
}


def make(name: str) -> nn.Module:
    """The network, its batch norm and biases as after training."""
    torch.manual_seed(0)
    model = NETS[name][0]()
    logits_of(model.train(), torch.randn(8, 3, 32, 32))
    return model.eval()


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    torch.manual_seed(0)  # for dropout
    return model(images)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_function_is_kept_explained_and_given_back(name: str, images: Tensor, snapshot: Snapshot) -> None:
    model = make(name)
    _, linear, classifier = NETS[name]
    before, plain = snapshot(model), logits_of(model, images)
    lap = interp_core.attach(model, image_size=32)
    assert (lap.info.linear_head, lap.info.partition.classifier, lap.info.classes) == (linear, classifier, 4)
    assert torch.equal(logits_of(lap, images), plain)
    assert lap.explain(images, plain.abs().argmax(1)).gap <= 1e-6
    for block in (*lap.gates, lap.head):
        nn.init.constant_(block.a, 2.0)  # type: ignore[arg-type]
    sharp = logits_of(lap, images)
    assert not torch.equal(sharp, plain)
    assert lap.explain(images, sharp.abs().argmax(1)).gap <= 1e-6
    assert torch.equal(logits_of(model, images), plain)
    assert interp_core.detach(lap) is model
    assert snapshot(model) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_training_mode_is_kept(name: str, images: Tensor) -> None:
    model, twin = make(name).train(), make(name).train()
    lap = interp_core.attach(model, image_size=32)
    for _ in range(2):
        assert torch.equal(logits_of(lap, images), logits_of(twin, images))
    for ours, theirs in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(logits_of(lap.eval(), images), logits_of(twin.eval(), images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dropout", "dropout of maps"])
def test_dropout_drops_in_training_and_only_there(name: str, images: Tensor) -> None:
    lap = interp_core.attach(make(name), image_size=32)
    assert torch.equal(lap(images), lap(images))
    lap.train()
    assert not torch.equal(lap(images), lap(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NETS) - {"fixed size", "batch size first"}))
def test_any_image_size_and_batch_size_after_a_probe_of_one_size(name: str) -> None:
    model = make(name)
    lap = interp_core.attach(model, image_size=32)
    for shape in ((1, 3, 48, 64), (5, 3, 33, 33)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(2))
        assert torch.equal(logits_of(lap, images), logits_of(model, images))
        assert lap.explain(images, 1).map.shape == (shape[0], 1, *shape[2:])


def test_the_batch_size_crosses_the_cut_as_a_number(images: Tensor) -> None:
    model = make("batch size first")
    partition = graph_partition(model, images[:1])
    assert partition is not None
    features, numbers = partition.features(model, images)
    assert features.shape == (3, 8, 4, 4)
    assert numbers == (3,)
    assert torch.equal(partition.head(model, features, numbers), model(images))


@pytest.mark.slow
def test_the_cut_lies_behind_the_last_map(images: Tensor) -> None:
    for name in NETS:
        model = make(name)
        partition = graph_partition(model, images[:1])
        assert partition is not None
        features, numbers = partition.features(model, images)
        assert features.shape == (3, 4 if name == "convolved" else 8, 4, 4)
        assert torch.equal(partition.head(model, features, numbers), logits_of(model, images))


@pytest.mark.slow
def test_a_relu_that_serves_everywhere_is_no_place_of_a_gate() -> None:
    sites = inspect_backbone(make("one relu"), 32).sites
    assert [(site.module, site.reduction) for site in sites] == [("b", 2), ("c", 4)]


class Auxiliary(Dropped):
    """A second opinion while training, and dropout that asks for the mode."""

    def forward(self, images: Tensor) -> Any:
        maps = self.maps(images)
        if self.training:
            return self.head(maps), self.fc(maps.amax((2, 3)))
        return self.head(maps)

    def head(self, maps: Tensor) -> Tensor:
        return self.fc(F.dropout(maps.mean((2, 3)), 0.5, self.training))


def test_auxiliary_logits_are_dropped_and_dropout_is_not(images: Tensor) -> None:
    torch.manual_seed(0)
    model = Auxiliary().eval()
    plain = logits_of(model, images)
    lap = interp_core.attach(model, image_size=32)
    assert torch.equal(logits_of(lap, images), plain)
    trained = logits_of(copy.deepcopy(model).train(), images)[0]
    assert torch.equal(logits_of(lap.train(), images), trained)


class Bypass(Own):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.maps(images).mean((2, 3))) + images.mean((1, 2, 3))[:, None]


class Asks(Own):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if images.mean() > -1e9 else images


@pytest.mark.parametrize("net", [Bypass, Asks])
def test_a_network_that_cannot_be_parted_is_told_the_protocol(net: type[nn.Module], snapshot: Snapshot) -> None:
    model = net().train()
    before = snapshot(model)
    with pytest.raises(BackboneError, match=f"{net.__name__}: no place found where one feature map") as caught:
        interp_core.attach(model, image_size=32)
    assert all(name in str(caught.value) for name in PROTOCOL)
    assert snapshot(model) == before


class Declared(Asks):
    """The same with timm's three functions."""

    def forward_features(self, images: Tensor) -> Tensor:
        return self.maps(images)

    def forward_head(self, features: Tensor) -> Tensor:
        return self.fc(features.mean((2, 3)))

    def get_classifier(self) -> nn.Module:
        return self.fc


def test_the_protocol_helps_where_tracing_does_not(images: Tensor) -> None:
    model = Declared().eval()
    lap = interp_core.attach(model, image_size=32)
    assert torch.equal(logits_of(lap, images), logits_of(model, images))
    assert lap.explain(images).gap <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("same", [False, True])
def test_other_threads_run_networks_while_one_is_traced(same: bool, images: Tensor) -> None:
    """torch.fx replaces what all modules are called by; the other thread is started in the midst of a trace."""
    outputs: list[Tensor] = []

    class Meddled(Functional):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.Identity()  # type: ignore[assignment]  # a trace of training mode would move its statistics

        def forward(self, images: Tensor) -> Tensor:
            if isinstance(images, fx.Proxy):
                thread = threading.Thread(target=lambda: outputs.append(network(pictures)))
                thread.start()
                thread.join()
            return super().forward(images)

    pictures = images
    model = Meddled().eval()
    network = model if same else make("functional")
    expected = logits_of(network, images)
    lap = interp_core.attach(model, image_size=32)
    assert outputs
    assert all(torch.equal(logits, expected) for logits in outputs)
    assert torch.equal(logits_of(lap, images), logits_of(model, images))


class Normalise(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.5) / 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_a_network_of_timm_behind_a_layer_that_normalises(name: str, images: Tensor, snapshot: Snapshot) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=4).eval()
    with interp_core.attach(network, image_size=64) as bare:
        plain = bare.explain(Normalise()(images), 1)
    model = nn.Sequential(Normalise(), network).eval()
    before = snapshot(model)
    lap = interp_core.attach(model, image_size=64)
    assert [(site.module, site.reduction) for site in lap.sites] == [
        (f"1.{site.module}", site.reduction) for site in bare.sites
    ]
    assert torch.equal(lap.explain(images, 1).logits, plain.logits)
    torch.testing.assert_close(lap.explain(images, 1).contributions, plain.contributions)
    assert interp_core.detach(lap) is model
    assert snapshot(model) == before


def test_a_deep_copy_uses_its_own_modules(images: Tensor) -> None:
    lap = interp_core.attach(make("wrapped"), image_size=32)
    before = logits_of(lap, images)
    clone = copy.deepcopy(lap)
    nn.init.zeros_(clone.backbone.get_submodule("inner.net.fc").weight)  # type: ignore[arg-type]
    nn.init.zeros_(clone.backbone.get_submodule("inner.net.first").weight)  # type: ignore[arg-type]
    assert torch.equal(logits_of(lap, images), before)
    bias = clone.backbone.get_submodule("inner.net.fc").bias
    torch.testing.assert_close(logits_of(clone, images), bias.expand(3, 4))  # type: ignore[union-attr, operator]
    assert logits_of(interp_core.detach(clone), images).shape == (3, 4)
    assert torch.equal(logits_of(lap, images), before)


def test_a_hook_of_the_users_own_is_left_and_fires(images: Tensor) -> None:
    model, calls = make("residual"), []
    model.get_submodule("second").register_forward_hook(lambda *_: calls.append(1))
    lap = interp_core.attach(model, image_size=32)
    calls.clear()
    lap(images)
    assert len(calls) == 1
    assert len(interp_core.detach(lap).get_submodule("second")._forward_hooks) == 1

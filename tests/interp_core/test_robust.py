"""What must not matter: size and number of images, memory format, precision, compilation, copies and replicas."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import interp_core
from interp_core import Explanation, LapModel
from interp_core.errors import BackboneError
from interp_core.recording import recording
from interp_core.training import DEFAULT_TERMS

MakeLap = Callable[..., LapModel]
Images = Callable[..., Tensor]
Sharpen = Callable[..., LapModel]

FOUR = ["test_resnet", "convnext_atto", "mobilenetv2_050", "densenet121"]
HALVES = [torch.bfloat16, torch.float16]


class OwnNet(nn.Module):
    """A network that follows no protocol, so that torch.fx splits it; batch norm makes modes differ."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.body(self.stem(images)).mean((2, 3)))


@pytest.fixture(autouse=True)
def same_scorers() -> None:
    torch.manual_seed(0)


@pytest.fixture
def own_lap(sharpen: Sharpen) -> LapModel:
    return sharpen(interp_core.attach(OwnNet().eval(), image_size=64))


@pytest.fixture(autouse=True)
def forget_compiled() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def logits_of(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


def sums_per_window(weights: Tensor, window: int | None) -> Tensor:
    if window is None:
        return weights.sum((2, 3))
    return F.avg_pool2d(weights, window, ceil_mode=True, divisor_override=1)


def check_identities(lap: LapModel, explanation: Explanation, gap: float = 1e-5) -> None:
    """Attention sums to 1 in every window, contributions to the logit on every level."""
    windows = [*(site.window for site in lap.sites), None]
    for level, window in zip(explanation.levels, windows, strict=True):
        sums = sums_per_window(level.attention.double(), window)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=gap)
        assert (level.attention >= 0).all()
    assert explanation.gap < gap


def close_to_scale(ours: Tensor, theirs: Tensor, share: float = 1e-5) -> None:
    """Equal but for `share` of the largest value."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=share * float(theirs.abs().max()))


# Sizes and numbers of images


@pytest.mark.parametrize("size", [(65, 97), (33, 120)])
@pytest.mark.parametrize("name", FOUR)
def test_odd_sizes_and_any_batch(
    name: str, size: tuple[int, int], make_lap: MakeLap, images_of: Images, sharpen: Sharpen
) -> None:
    lap, seven = make_lap(name, a=0.0), images_of(*size, count=7)
    for images in (seven[:1], seven):
        assert torch.equal(logits_of(lap, images), logits_of(lap.backbone, images))
    check_identities(sharpen(lap), lap.explain(seven, 2))
    lap, seven = lap.double(), seven.double()
    together, alone = lap.explain(seven, 2), lap.explain(seven[3:4], 2)
    for explanation, count in ((together, 7), (alone, 1)):
        assert explanation.map.shape == (count, 1, *size)
        check_identities(lap, explanation, 1e-10)
    for ours, theirs in zip(together.levels, alone.levels, strict=True):
        close_to_scale(ours.contributions[3:4], theirs.contributions, 1e-9)


def test_the_smallest_image_is_one_cell(make_lap: MakeLap, images_of: Images) -> None:
    lap = make_lap()
    explanation = lap.explain(images_of(32, 32, count=1))
    assert explanation.native.shape == (1, 1, 1, 1)
    check_identities(lap, explanation)


@pytest.mark.parametrize(
    "arrange", [lambda x: x.transpose(2, 3), lambda x: x[..., ::2, 1:], lambda x: x[:1].expand_as(x)]
)
def test_views_are_images_like_any_other(
    arrange: Callable[[Tensor], Tensor], make_lap: MakeLap, images_of: Images
) -> None:
    lap, images = make_lap(), arrange(images_of(96, 65))
    torch.testing.assert_close(lap.explain(images, 1).map, lap.explain(images.clone().contiguous(), 1).map)


def test_the_pitch_of_cells_is_the_product_of_the_strides(protocol_net: type[Any], images_of: Images) -> None:
    """Whatever the size of the probe; 44 pixels make 3 cells, which are nevertheless 16 pixels apart."""
    inner = nn.Sequential(nn.Conv2d(2, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 2, 1))
    infos = [interp_core.attach(protocol_net(copy.deepcopy(inner)), image_size=side).info for side in (44, 64, 75)]
    assert [(info.grid, info.reduction, info.first) for info in infos] == [
        ((3, 3), 16, 1.5),
        ((4, 4), 16, 1.5),
        ((5, 5), 16, 1.5),
    ]


def test_a_convolution_without_padding_moves_cells_and_keeps_their_pitch(protocol_net: type[Any]) -> None:
    """12 positions become 8, which is no stride of 2."""
    info = interp_core.attach(protocol_net(nn.Sequential(nn.Conv2d(2, 2, 5), nn.AvgPool2d(2))), image_size=48).info
    # 1.5 pixels to the middle of the first patch, 2 positions of 4 pixels each, half a position.
    assert (info.grid, info.reduction, info.first) == ((4, 4), 8, 1.5 + 8 + 2)


# Memory format


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", FOUR)
def test_channels_last_changes_nothing_and_is_kept(
    name: str, dtype: torch.dtype, share: float, make_lap: MakeLap, images: Tensor
) -> None:
    lap, images, last = make_lap(name).to(dtype), images.to(dtype), torch.channels_last
    expected = lap.explain(images, 1)
    other = copy.deepcopy(lap).to(memory_format=last)  # type: ignore[call-overload]
    formats: list[tuple[bool, bool]] = []
    for block in (*other.gates, other.head):
        block.register_forward_hook(
            lambda _module, inputs, output: formats.append(
                (inputs[0].is_contiguous(memory_format=last), output.is_contiguous(memory_format=last))
            )
        )
    found = other.explain(images.contiguous(memory_format=last), 1)
    assert formats == [(True, True)] * 4
    close_to_scale(found.logits, expected.logits, share)
    close_to_scale(found.contributions, expected.contributions, share)
    close_to_scale(found.map, expected.map, max(share, 1e-6))
    assert found.gap < 1e-5


def test_contiguous_features_stay_contiguous(make_lap: MakeLap, images: Tensor) -> None:
    lap, outputs = make_lap(), []
    for block in (*lap.gates, lap.head):
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.is_contiguous()))
    lap(images)
    assert outputs == [True] * 4


# Precision


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", FOUR)
def test_autocast_keeps_the_function(
    name: str, dtype: torch.dtype, make_lap: MakeLap, images: Tensor, sharpen: Sharpen
) -> None:
    lap = make_lap(name, a=0.0)
    with torch.autocast("cpu", dtype=dtype):
        ours, plain = logits_of(lap, images), logits_of(lap.backbone, images)
        assert ours.dtype == plain.dtype == dtype
        assert torch.equal(ours, plain)
        explanation = sharpen(lap).explain(images, 1)
        assert explanation.gap < 0.05
    assert explanation.map.dtype == explanation.native.dtype == torch.float32
    for level in explanation.levels:
        assert torch.isfinite(level.contributions).all()
    assert torch.isfinite(explanation.map).all()
    if dtype == torch.float16:  # in bfloat16 the networks themselves, of random weights, see something else
        close_to_scale(explanation.map, lap.explain(images, 1).map, 0.2)


def test_a_map_under_autocast_has_all_its_digits(make_lap: MakeLap, images_of: Images) -> None:
    """Placing a map on the image is a matrix product, which autocast would do in eight bits."""
    lap = make_lap()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        explanation = lap.explain(images_of(96, 96), 1)
    shown = explanation.map
    assert not torch.equal(shown, shown.bfloat16().float())
    again = interp_core.geometry.resize(explanation.native, 96, 96, lap.info.first, lap.info.reduction)
    assert torch.equal(shown, again)


@pytest.mark.parametrize("aggregate", ["max", "learned"])
@pytest.mark.parametrize("classes", [4, 12])
def test_autocast_never_changes_the_type_of_features(
    classes: int, aggregate: str, make_backbone: Callable[..., nn.Module], images: Tensor, sharpen: Sharpen
) -> None:
    lap = sharpen(interp_core.attach(make_backbone(classes=classes), concepts=("fur", "eye"), aggregate=aggregate))
    types: list[tuple[torch.dtype, torch.dtype]] = []
    for block in (*lap.gates, lap.head):
        block.register_forward_hook(lambda _module, inputs, output: types.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lap(images)
    assert types == [(torch.bfloat16, torch.bfloat16)] * 4


def test_it_trains_under_autocast(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = training_loss(lap, images)
    loss.backward()
    for name, parameter in lap.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("dtype", "gap"), [(torch.bfloat16, 0.05), (torch.float16, 0.01), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", ["test_resnet", "convnext_atto"])
def test_a_model_of_another_precision(
    name: str, dtype: torch.dtype, gap: float, make_lap: MakeLap, images: Tensor, sharpen: Sharpen
) -> None:
    lap, inputs = make_lap(name, a=0.0).to(dtype), images.to(dtype)
    assert torch.equal(logits_of(lap, inputs), logits_of(lap.backbone, inputs))
    explanation = sharpen(lap).explain(inputs, 1)
    assert explanation.logits.dtype == dtype
    assert explanation.map.dtype == torch.float32
    assert torch.isfinite(explanation.map).all()
    check_identities(lap, explanation, gap)


# Compilation


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", ["test_resnet", "own"])
def test_the_forward_compiles_into_one_graph(
    name: str, backend: str, make_lap: MakeLap, own_lap: LapModel, images: Tensor
) -> None:
    lap = own_lap if name == "own" else make_lap(name)
    compiled = torch.compile(lap, fullgraph=True, backend=backend)
    torch.testing.assert_close(logits_of(compiled, images), logits_of(lap, images))
    found, expected = compiled.explain(images, 1), lap.explain(images, 1)  # type: ignore[attr-defined]
    torch.testing.assert_close(found.map, expected.map)


def training_loss(model: nn.Module, images: Tensor) -> Tensor:
    """Cross-entropy and all default terms, also where the LAP model is wrapped."""
    targets = torch.arange(len(images)) % 4
    with recording(all_concepts=True) as record:
        logits = model(images)
    assert record.concepts is not None
    labels = F.one_hot(targets, 4).to(logits.dtype)
    terms = [term.weight * term.loss(record.concepts, labels) for term in DEFAULT_TERMS]
    return torch.stack([F.cross_entropy(logits, targets), *terms]).sum()


def same_gradients(first: nn.Module, second: nn.Module) -> None:
    for (name, ours), theirs in zip(first.named_parameters(), second.parameters(), strict=True):
        assert ours.grad is not None, name
        torch.testing.assert_close(ours.grad, theirs.grad, msg=f"{name} learns differently")
        assert bool(ours.grad.isfinite().all())


def test_a_training_step_compiles_into_one_graph(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap().train()
    other = copy.deepcopy(lap)
    training_loss(lap, images).backward()
    torch.compile(training_loss, fullgraph=True, backend="aot_eager")(other, images).backward()
    same_gradients(other, lap)
    assert torch.equal(other.backbone.bn1.running_mean, lap.backbone.bn1.running_mean)  # type: ignore[union-attr, arg-type]


def test_a_model_compiled_in_place_explains(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    expected = lap.explain(images)
    lap.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(lap.explain(images).map, expected.map)


# Copies and replicas


def replicate(network: nn.Module) -> Any:
    """What torch.nn.parallel.replicate does on GPUs: copies that share all but modules and tensors."""
    modules = list(network.modules())
    copies = [module._replicate_for_data_parallel() for module in modules]  # type: ignore[operator]
    place = {module: index for index, module in enumerate(modules)}
    for module, replica in zip(modules, copies, strict=True):
        for name, child in module._modules.items():
            setattr(replica, name, None if child is None else copies[place[child]])
        for name, parameter in module._parameters.items():
            if parameter is None:
                replica._parameters[name] = None
            else:
                setattr(replica, name, parameter.clone())  # no Parameter any more, but bound to the original
        for name, buffer in module._buffers.items():
            replica._buffers[name] = None if buffer is None else buffer.clone()
    return copies[0]


@pytest.mark.parametrize("name", ["test_resnet", "densenet121", "own"])
def test_a_replica_uses_its_own_gates(
    name: str, make_lap: MakeLap, own_lap: LapModel, images: Tensor, sharpen: Sharpen
) -> None:
    lap = sharpen(own_lap if name == "own" else make_lap(name), 1.0)
    before, expected = logits_of(lap, images), logits_of(sharpen(copy.deepcopy(lap), 3.0), images)
    assert not torch.equal(before, expected)
    replica = replicate(lap)
    assert torch.equal(logits_of(replica, images), before)
    for block in (*replica.gates, replica.head):
        block.a = torch.tensor(3.0)
    assert torch.equal(logits_of(replica, images), expected)
    assert torch.equal(logits_of(lap, images), before)
    assert torch.equal(replica.explain(images, 1).map, sharpen(copy.deepcopy(lap), 3.0).explain(images, 1).map)


def test_replicas_hand_their_gradients_to_the_original(make_lap: MakeLap, images_of: Images) -> None:
    """In evaluation mode, where images do not see each other: two halves of a batch are the batch."""
    lap, images = make_lap().double(), images_of(64, 64, count=4).double()
    other = copy.deepcopy(lap)
    F.cross_entropy(lap(images), torch.arange(4)).backward()
    halves = zip(images.split(2), torch.arange(4).split(2), strict=True)
    losses = [F.cross_entropy(replicate(other)(part), targets) for part, targets in halves]
    torch.stack(losses).mean().backward()
    for (name, ours), theirs in zip(other.named_parameters(), lap.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch without gloo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_step_of_distributed_training_has_the_same_gradients(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap().train()
    other = copy.deepcopy(lap)
    parallel = nn.parallel.DistributedDataParallel(other)
    loss, expected = training_loss(parallel, images), training_loss(lap, images)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    same_gradients(other, lap)


def test_a_deep_copy_of_a_network_split_by_torch_fx_is_its_own(
    own_lap: LapModel, images: Tensor, sharpen: Sharpen
) -> None:
    before = logits_of(own_lap, images)
    clone = sharpen(copy.deepcopy(own_lap), 0.0)
    nn.init.zeros_(clone.backbone.fc.weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(logits_of(own_lap, images), before)
    assert torch.equal(logits_of(clone, images), clone.backbone.fc.bias.expand(2, -1))  # type: ignore[union-attr, operator]
    assert torch.equal(clone.explain(images, 1).bias, clone.backbone.fc.bias[[1, 1]])  # type: ignore[union-attr, index]


# Other ways through the network


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_050"])
def test_gradient_checkpointing_that_passes_gates_by_is_told(name: str, make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap(name).train()
    lap.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    with pytest.raises(BackboneError, match=r"called 0 of the 3 modules LAP gates.*turn gradient checkpointing off"):
        lap(images)
    lap.backbone.set_grad_checkpointing(False)  # type: ignore[operator]
    assert lap(images).shape == (2, 4)


@pytest.mark.parametrize("name", ["convnext_atto", "densenet121"])
def test_gradient_checkpointing_that_meets_the_gates_changes_nothing(
    name: str, make_lap: MakeLap, images: Tensor
) -> None:
    lap = make_lap(name).train()
    for module in lap.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # it would see the images twice
    other = copy.deepcopy(lap)
    other.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    training_loss(lap, images).backward()
    training_loss(other, images).backward()
    same_gradients(other, lap)


def test_checkpointing_around_a_gate_is_no_silent_error(protocol_net: type[Any], images: Tensor) -> None:
    """Gates sleep in the backward pass, where the network is run again; torch sees that it is another network."""
    from torch.utils.checkpoint import CheckpointError, checkpoint

    class Checkpointed(protocol_net):  # type: ignore[misc]
        def forward_features(self, images: Tensor) -> Tensor:
            return self.inner(checkpoint(self.stem, images, use_reentrant=False))

    lap = interp_core.attach(Checkpointed(nn.MaxPool2d(2)))
    with pytest.raises(CheckpointError):
        lap(images.requires_grad_()).sum().backward()

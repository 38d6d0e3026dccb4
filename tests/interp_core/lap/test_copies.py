"""Copies and replicas of a model are their own; gradient checkpointing is no silent error."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers.nets import OwnNet, logits_of, same_gradients, training_loss
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.errors import BackboneError

pytestmark = pytest.mark.slow

MakeLap = Callable[..., LapModel]
Images = Callable[..., Tensor]
Sharpen = Callable[..., LapModel]


@pytest.fixture(autouse=True)
def same_scorers() -> None:
    torch.manual_seed(0)


@pytest.fixture
def own_lap(sharpen: Sharpen) -> LapModel:
    return sharpen(interp_core.attach(OwnNet().eval(), image_size=64))


def replicate(network: nn.Module) -> Any:
    """What torch.nn.parallel.replicate does on GPUs: copies that share all but modules and tensors."""
    modules = list(network.modules())
    copies = [module._replicate_for_data_parallel() for module in modules]  # type: ignore[operator]
    index_of = {module: index for index, module in enumerate(modules)}
    for module, replica in zip(modules, copies, strict=True):
        for name, child in module._modules.items():
            setattr(replica, name, None if child is None else copies[index_of[child]])
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
    twin = copy.deepcopy(lap)
    F.cross_entropy(lap(images), torch.arange(4)).backward()
    halves = zip(images.split(2), torch.arange(4).split(2), strict=True)
    losses = [F.cross_entropy(replicate(twin)(half), targets) for half, targets in halves]
    torch.stack(losses).mean().backward()
    for (name, ours), theirs in zip(twin.named_parameters(), lap.parameters(), strict=True):
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
    twin = copy.deepcopy(lap)
    parallel = nn.parallel.DistributedDataParallel(twin)
    loss, expected = training_loss(parallel, images), training_loss(lap, images)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    same_gradients(twin, lap)


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
    twin = copy.deepcopy(lap)
    twin.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    training_loss(lap, images).backward()
    training_loss(twin, images).backward()
    same_gradients(twin, lap)


def test_checkpointing_around_a_gate_is_no_silent_error(protocol_net: type[Any], images: Tensor) -> None:
    """Gates sleep in the backward pass, where the network is run again; torch sees that it is another network."""
    from torch.utils.checkpoint import CheckpointError, checkpoint

    class Checkpointed(protocol_net):  # type: ignore[misc]
        def forward_features(self, images: Tensor) -> Tensor:
            return self.inner(checkpoint(self.stem, images, use_reentrant=False))

    lap = interp_core.attach(Checkpointed(nn.MaxPool2d(2)))
    with pytest.raises(CheckpointError):
        lap(images.requires_grad_()).sum().backward()

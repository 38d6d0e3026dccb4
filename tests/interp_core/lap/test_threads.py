"""Models in several threads at once: every thread gets what it would have got alone, and a plain call stays plain."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.nets import OwnNet
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.errors import BackboneError, ContractError

pytestmark = pytest.mark.slow

Make = Callable[..., nn.Module]
MakeLap = Callable[..., LapModel]
Images = Callable[..., Tensor]
Sharpen = Callable[..., LapModel]
Snapshot = Callable[[nn.Module], dict]
TIMEOUT = 60


@pytest.fixture(autouse=True)
def same_scorers() -> None:
    torch.manual_seed(0)


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """Results of the jobs, each in a thread of its own; their errors are raised here."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(TIMEOUT) for future in [pool.submit(job) for job in jobs]]


@contextmanager
def meeting(model: nn.Module, module: str, count: int) -> Iterator[None]:
    """Inside, `count` threads wait for each other at the end of a module, so that their passes overlap."""
    barrier = threading.Barrier(count, timeout=TIMEOUT)

    def meet(*_: object) -> None:
        barrier.wait()

    handle = model.get_submodule(module).register_forward_hook(meet)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def busy(work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Inside, another thread does the work again and again, at least once."""
    stop, once, errors = threading.Event(), threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while not stop.is_set():
                work()
                once.set()
        except BaseException as error:
            errors.append(error)
            once.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert once.wait(TIMEOUT)
        yield errors
    finally:
        stop.set()
        thread.join(TIMEOUT)
    assert not errors, errors


def plain(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


SIZES = [(64, 64), (97, 65), (33, 120), (64, 64), (128, 32), (65, 65)]


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "own"])
def test_many_threads_explain_different_images_with_one_model(
    name: str, make_lap: MakeLap, images_of: Images, sharpen: Sharpen
) -> None:
    """With a linear head, with one that is differentiated, and with a network in two functions."""
    torch.manual_seed(0)
    lap = sharpen(interp_core.attach(OwnNet().eval(), image_size=64)) if name == "own" else make_lap(name)
    lap = lap.double()
    batches = [images_of(*size, count=1 + i % 3).double() + i for i, size in enumerate(SIZES)]
    alone = [lap.explain(batch, i % 4) for i, batch in enumerate(batches)]
    last = lap.info.feature_module if lap.info.feature_module else "body"
    with meeting(lap.backbone, last, len(SIZES)):
        explanations = at_once(*(lambda i=i: lap.explain(batches[i], i % 4) for i in range(len(SIZES))))
    for ours, expected in zip(explanations, alone, strict=True):
        torch.testing.assert_close(ours.logits, expected.logits, rtol=0, atol=1e-10)
        torch.testing.assert_close(ours.map, expected.map, rtol=0, atol=1e-5)
        assert ours.gap < 1e-5  # the pixels are single precision
        for level, expected_level in zip(ours.levels, expected.levels, strict=True):
            torch.testing.assert_close(level.contributions, expected_level.contributions, rtol=0, atol=1e-10)
            if level.record is not None:
                torch.testing.assert_close(level.record.concepts, expected_level.record.concepts, rtol=0, atol=1e-10)


def test_the_backbone_is_plain_while_another_thread_explains(
    make_backbone: Make, make_lap: MakeLap, images: Tensor
) -> None:
    lap, expected = make_lap(), plain(make_backbone(), images)
    gated = lap.explain(images, 1)
    assert not torch.equal(gated.logits, expected)
    # Neither leaves the last stage before the other has entered it: all gates of both lie behind.
    with meeting(lap.backbone, "layer4", 2):
        explanation, logits = at_once(lambda: lap.explain(images, 1), lambda: plain(lap.backbone, images))
    assert torch.equal(logits, expected)
    assert torch.equal(explanation.map, gated.map)


@pytest.mark.parametrize("first", ["layer1", "layer2", "layer3"])
def test_a_plain_call_between_two_gates_of_another_thread(
    first: str, make_backbone: Make, make_lap: MakeLap, images: Tensor
) -> None:
    """One pass waits behind a gate while the whole plain call is made, then goes on."""
    lap, expected = make_lap(), plain(make_backbone(), images)
    gated = lap.explain(images, 1)
    inside, go_on = threading.Event(), threading.Event()
    waiting: list[int] = []

    def wait(*_: object) -> None:
        if not waiting:
            waiting.append(threading.get_ident())
            inside.set()
            assert go_on.wait(TIMEOUT)

    handle = lap.backbone.get_submodule(first).register_forward_hook(wait)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lap.explain, images, 1)
        assert inside.wait(TIMEOUT)
        logits = plain(lap.backbone, images)
        go_on.set()
        explanation = future.result(TIMEOUT)
    handle.remove()
    assert torch.equal(logits, expected)
    assert torch.equal(explanation.map, gated.map)


@pytest.mark.parametrize("kind", ["protocol", "own"])
def test_models_come_and_go_in_another_thread(
    kind: str, make_backbone: Make, make_lap: MakeLap, images: Tensor, snapshot: Snapshot, sharpen: Sharpen
) -> None:
    """Attaching a network without protocol traces it with torch.fx, which replaces what calls any module."""
    lap, images = make_lap(), images[:1]
    expected, without = lap.explain(images, 1), plain(lap.backbone, images)
    guest_network = OwnNet().eval() if kind == "own" else make_backbone("test_efficientnet")
    before, rounds = snapshot(guest_network), list[bool]()

    def come_and_go() -> None:
        with sharpen(interp_core.attach(guest_network, image_size=64)) as guest:
            rounds.append(bool(guest.explain(images, 2).gap < 1e-4))

    with busy(come_and_go) as errors:
        for _ in range(20):
            assert torch.equal(lap.explain(images, 1).map, expected.map)
            assert torch.equal(plain(lap.backbone, images), without)
        assert not errors
    assert rounds
    assert all(rounds)
    assert snapshot(guest_network) == before


def test_many_threads_attach_at_once(images: Tensor, sharpen: Sharpen) -> None:
    torch.manual_seed(0)
    networks = [OwnNet().eval() for _ in range(4)]
    alone = [sharpen(interp_core.attach(copy.deepcopy(n), image_size=64)).explain(images, 1) for n in networks]
    laps = at_once(*(lambda n=n: interp_core.attach(n, image_size=64) for n in networks))
    for lap, network, expected in zip(laps, networks, alone, strict=True):
        _same_blocks(lap, expected)
        assert interp_core.detach(lap) is network
        assert not any(module._forward_hooks for module in network.modules())


def _same_blocks(lap: LapModel, expected: interp_core.Explanation) -> None:
    """Scorers start at random, so only what does not depend on them is the same."""
    assert torch.equal(lap.explain(expected.images, 1).targets, expected.targets)
    assert [site.module for site in lap.sites] == [
        level.name for level in expected.levels[:-1] if level.attention is not None
    ]
    assert torch.equal(plain(lap, expected.images), plain(lap.backbone, expected.images))


def test_one_model_explains_in_inference_mode_while_another_trains(make_lap: MakeLap, images_of: Images) -> None:
    """At sizes nothing has seen before: constants made in inference mode must not get into the graph of a training."""
    lap, learner, images = make_lap(), make_lap().train(), images_of(160, 129)
    twin = copy.deepcopy(learner)
    expected = lap.explain(images, 1).map

    def step(model: LapModel) -> list[Tensor]:
        for parameter in model.parameters():
            parameter.grad = None
        F.cross_entropy(model(images), torch.tensor([0, 1])).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    def explain() -> None:
        with torch.inference_mode():
            assert torch.equal(lap.explain(images, 1).map, expected)

    expected_gradients = step(twin)
    with busy(explain) as errors:
        for _ in range(3):
            for ours, theirs in zip(step(learner), expected_gradients, strict=True):
                torch.testing.assert_close(ours, theirs)
        assert not errors
    assert all(p.grad is None for p in lap.parameters())


def test_inference_mode_leaves_nothing_behind_that_training_could_trip_over(
    make_lap: MakeLap, images_of: Images
) -> None:
    lap, images = make_lap(), images_of(161, 131)
    with torch.inference_mode():
        inside = lap.explain(images, 1)
    torch.testing.assert_close(lap.explain(images, 1).map, inside.map)
    lap.train()(images).square().sum().backward()
    assert all(bool(block.a.grad.isfinite()) for block in lap.gates)  # type: ignore[union-attr, operator]


def test_modes_of_one_thread_are_not_those_of_another(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()

    def under_autocast() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return lap.explain(images, 1).logits

    with meeting(lap.backbone, "layer4", 2):
        half, full = at_once(under_autocast, lambda: lap.explain(images, 1).logits)
    assert (half.dtype, full.dtype) == (torch.bfloat16, torch.float32)


# One thread: hooks sleep outside a pass


def test_the_backbone_called_itself_is_the_plain_network(
    family: str, make_backbone: Make, make_lap: MakeLap, images: Tensor
) -> None:
    lap, expected = make_lap(family), plain(make_backbone(family), images)
    assert torch.equal(plain(lap.backbone, images), expected)
    assert not torch.equal(plain(lap, images), expected)
    assert torch.equal(plain(lap.backbone, images), expected)


def test_hooks_of_the_user_see_the_plain_network_outside_a_pass_and_the_gated_one_inside(
    make_backbone: Make, make_lap: MakeLap, images: Tensor
) -> None:
    lap, original = make_lap(), make_backbone()
    outputs: dict[str, list[Tensor]] = {"ours": [], "plain": []}
    for model, key in ((lap.backbone, "ours"), (original, "plain")):
        for name in ("layer1", "layer4"):
            hook = lambda _module, _inputs, output, key=key: outputs[key].append(output.detach().clone())  # noqa: E731
            model.get_submodule(name).register_forward_hook(hook)
    expected = plain(original, images)
    assert torch.equal(plain(lap.backbone, images), expected)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(outputs["ours"], outputs["plain"], strict=True))
    plain(lap, images)
    assert not any(
        torch.equal(ours, theirs) for ours, theirs in zip(outputs["ours"][2:], outputs["plain"], strict=True)
    )


def test_the_backbone_is_plain_inside_a_hook_on_the_model(
    make_backbone: Make, make_lap: MakeLap, images: Tensor
) -> None:
    lap, expected, outputs = make_lap(), plain(make_backbone(), images), list[Tensor]()
    lap.register_forward_hook(lambda *_: outputs.append(lap.backbone(images)))
    lap.head.register_forward_hook(lambda *_: outputs.append(lap.backbone(images)))
    plain(lap, images)
    assert [torch.equal(logits, expected) for logits in outputs] == [True, True]


def test_another_model_may_make_its_pass_inside_a_pass(make_lap: MakeLap, images: Tensor) -> None:
    lap, guest = make_lap(), make_lap("test_efficientnet")
    expected, inner = plain(lap, images), plain(guest, images)
    outputs: list[Tensor] = []
    lap.backbone.get_submodule("layer2").register_forward_hook(lambda *_: outputs.append(guest(images)))
    assert torch.equal(plain(lap, images), expected)
    assert torch.equal(outputs[0], inner)


def test_the_plain_network_called_inside_its_own_pass_is_refused(make_lap: MakeLap, images: Tensor) -> None:
    """Which of the two calls a gate belongs to cannot be told."""
    lap, busy_now = make_lap(), list[bool]()

    def call_again(*_: object) -> None:
        if not busy_now:
            busy_now.append(True)
            lap.backbone(images)

    handle = lap.backbone.get_submodule("layer2").register_forward_hook(call_again)
    with pytest.raises(BackboneError, match="called 6 of the 3 modules LAP gates"):
        lap(images)
    handle.remove()
    assert lap(images).shape == (2, 4)


def test_a_pass_that_fails_leaves_the_backbone_plain(make_backbone: Make, make_lap: MakeLap, images: Tensor) -> None:
    lap, expected = make_lap(), plain(make_backbone(), images)
    gated = plain(lap, images)

    def fail(*_: object) -> None:
        raise ValueError("mine")

    handle = lap.backbone.get_submodule("layer2").register_forward_hook(fail)
    with pytest.raises(ValueError, match="mine"):
        lap(images)
    with pytest.raises(ContractError, match="mine"):  # a size that it was not inspected with is tried first
        lap.explain(images)
    handle.remove()
    assert torch.equal(plain(lap.backbone, images), expected)
    assert torch.equal(plain(lap, images), gated)

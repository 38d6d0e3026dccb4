"""Bad input: each is refused with the right class of error, in one line that says what to do, and changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers.nets import Bypass
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.backbone.geometry import CellGrid
from interp_core.errors import BackboneError, ContractError, InterpError
from interp_core.lap.input_checks import check_images, check_logits, check_size, check_targets

Make = Callable[..., nn.Module]
MakeLap = Callable[..., LapModel]
Snapshot = Callable[[nn.Module], dict]
NAN, INF = float("nan"), float("inf")


@contextmanager
def refused(kind: type[InterpError], *says: str) -> Iterator[None]:
    """The error is of this very class, one line, and says all of this."""
    with pytest.raises(InterpError) as caught:
        yield
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in message
    assert len(message) < 400
    for text in says:
        assert text in message


def spoiled(images: Tensor, *broken: int, value: float = NAN) -> Tensor:
    images = images.clone()
    for index in broken:
        images[index, 0, 3, 5] = value
    return images


# The functions alone


def test_good_images_pass() -> None:
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        check_images(torch.zeros(1, 3, 32, 33, dtype=dtype), 3, torch.zeros(1, dtype=dtype))
        check_size(torch.zeros(1, 3, 32, 33, dtype=dtype), CellGrid.square(0, 32))
    check_images(torch.zeros(2, 1, 8, 8), 1, torch.zeros(1))
    check_size(torch.zeros(2, 1, 8, 8), CellGrid.square(0, 8))


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ([[0.0]], "got list"),
        (None, "got NoneType"),
        (torch.zeros(3, 32, 32), "got (3, 32, 32)"),
        (torch.zeros(1, 3, 1, 32, 32), "got (1, 3, 1, 32, 32)"),
        (torch.zeros(2, 1, 32, 32), "images (N, 3, H, W), got (2, 1, 32, 32)"),
        (torch.zeros(2, 32, 32, 3), "images (N, 3, H, W), got (2, 32, 32, 3)"),
        (torch.zeros(0, 3, 32, 32), "got (0, 3, 32, 32)"),
        (torch.zeros(2, 3, 0, 32), "got (2, 3, 0, 32)"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "got torch.uint8: normalise the images first"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.bool), "got torch.bool: normalise"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.complex64), "got torch.complex64"),
        (torch.zeros(2, 3, 31, 200), "31 x 200 pixels are smaller than one cell of the last map (32 pixels): enlarge"),
        (torch.zeros(2, 3, 200, 1), "200 x 1 pixels are smaller than one cell"),
        (torch.zeros(2, 3, 32, 32, device="meta"), "the images are on meta, the model on cpu: move one of them"),
    ],
    ids=lambda thing: thing[:40] if isinstance(thing, str) else "",
)
def test_bad_images_are_refused(images: Any, says: str) -> None:
    with refused(ContractError, says):
        check_images(images, 3, torch.zeros(1))
        check_size(images, CellGrid.square(0, 32))


def test_the_size_on_which_a_network_fails_is_named() -> None:
    flat = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU()), nn.Flatten(), nn.Linear(4 * 6 * 9, 3)).eval()
    lap = interp_core.attach(flat, image_size=(14, 20))
    assert lap.explain(torch.rand(2, 1, 14, 20), 0).map.shape == (2, 1, 14, 20)
    with refused(
        ContractError, "failed on images of 20 x 16 pixels: ", "inspected with 14 x 20", "image_size=(20, 16)"
    ):
        lap.explain(torch.rand(2, 1, 20, 16), 0)


def test_finite_logits_pass_whatever_the_images() -> None:
    check_logits(torch.zeros(2, 4), torch.full((2, 3, 8, 8), NAN))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_images_that_are_not_finite_are_named(value: float) -> None:
    images, logits = spoiled(torch.zeros(5, 3, 8, 8), 1, 4, value=value), torch.zeros(5, 4)
    logits[1] = logits[4] = NAN
    with refused(ContractError, "images 1, 4 hold NaN or infinite values: leave them out or fix them"):
        check_logits(logits, images)


def test_a_broken_network_is_told_from_broken_images() -> None:
    logits = torch.zeros(3, 4)
    logits[2, 1] = INF
    with refused(ContractError, "logits of images 2 are NaN or infinite, the images are not: look at its weights"):
        check_logits(logits, torch.zeros(3, 3, 8, 8))


def test_only_some_of_many_broken_images_are_named() -> None:
    with refused(ContractError, "images 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more hold NaN"):
        check_logits(torch.full((100, 2), NAN), torch.full((100, 1, 2, 2), NAN))


def test_targets_in_any_form() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    assert check_targets(None, logits).tolist() == [1, 0]
    forms: list[Any] = [2, torch.tensor(2), torch.tensor([2, 2], dtype=torch.int8), [2, 2]]
    for form in forms:
        classes = check_targets(form, logits)
        assert (classes.tolist(), classes.dtype) == ([2, 2], torch.int64)
    assert check_targets(torch.tensor([0, 2]), logits).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (3, "targets must lie in 0..2, got 3"),
        (-1, "targets must lie in 0..2, got -1"),
        (2**40, "targets must lie in 0..2"),
        (torch.tensor([0, 3]), "targets must lie in 0..2, got [0, 3]"),
        (torch.tensor([0]), "targets must be 2 class indices or one for all, got (1,)"),
        (torch.tensor([[0, 1]]), "2 class indices or one for all, got (1, 2)"),
        (0.5, "2 class indices"),
        (torch.tensor([0.0, 1.0]), "2 class indices"),
        ("cat", "targets must be class indices, got 'cat'"),
        ([[1], [2, 3]], "targets must be class indices, got [[1], [2, 3]]"),
    ],
)
def test_bad_targets_are_refused(targets: Any, says: str) -> None:
    with refused(ContractError, says):
        check_targets(targets, torch.zeros(2, 3))


# Explaining with a whole model: refused, and the model is as it was


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("spoil", "targets", "says"),
    [
        (lambda x: x[:, :1], None, "images (N, 3, H, W), got (2, 1, 64, 64)"),
        (lambda x: x.repeat(1, 2, 1, 1), None, "got (2, 6, 64, 64)"),
        (lambda x: x[..., :31], None, "64 x 31 pixels are smaller than one cell"),
        (lambda x: x.to("meta"), None, "the images are on meta, the model on cpu"),
        (lambda x: spoiled(x, 1), None, "images 1 hold NaN"),
        (lambda x: spoiled(x, 0, 1, value=INF), 1, "images 0, 1 hold NaN or infinite"),
        (lambda x: x.mul(255).byte(), None, "normalise the images first"),
        (lambda x: x.numpy(), None, "got ndarray"),
        (lambda x: x, 4, "0..3"),
        (lambda x: x, torch.tensor([0, -1]), "0..3"),
        (lambda x: x, torch.tensor([0, 1, 2]), "2 class indices"),
    ],
    ids=["grey", "six", "small", "device", "nan", "inf", "bytes", "numpy", "unknown", "negative", "many"],
)
@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
def test_a_refused_explanation_leaves_the_model_as_it_was(
    name: str,
    spoil: Callable[[Tensor], Any],
    targets: Any,
    says: str,
    training: bool,
    make_lap: MakeLap,
    images: Tensor,
    snapshot: Snapshot,
) -> None:
    lap = make_lap(name)
    expected = lap.explain(images, 1).map
    lap.train(training)
    before = snapshot(lap)
    with refused(ContractError, says):
        lap.explain(spoil(images), targets)
    assert snapshot(lap) == before
    assert all(parameter.grad is None for parameter in lap.parameters())
    assert torch.equal(lap.eval().explain(images, 1).map, expected)


@pytest.mark.slow
def test_a_broken_image_does_not_reach_the_others(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    with torch.no_grad():
        logits = lap(spoiled(images, 1))
    assert torch.isfinite(logits[0]).all()
    assert not torch.isfinite(logits[1]).any()


def test_a_network_with_broken_weights_says_so(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    nn.init.constant_(lap.backbone.get_classifier().weight, NAN)  # type: ignore[operator]
    with refused(ContractError, "logits of images 0, 1", "look at its weights"):
        lap.explain(images)


def test_a_model_on_another_device_than_the_images(make_lap: MakeLap, images: Tensor) -> None:
    with refused(ContractError, "the images are on cpu, the model on meta: move one of them, as in images.to('meta')"):
        make_lap().to("meta").explain(images)


# Attaching: refused, and the network is as it was


class TwiceTheLogits(nn.Module):
    """Mixed into a network whose forward does more than its features and head."""

    def forward(self, images: Tensor) -> Tensor:
        return 2 * self.forward_head(self.forward_features(images))  # type: ignore[operator]


class Moody(nn.Module):
    """Which way it goes depends on the image, so that torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        return self.fc((features if images.sum() > 0 else -features).mean((2, 3)))


def only_tokens() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.Flatten(2), nn.LayerNorm(196), nn.Flatten(), nn.Linear(8 * 196, 2))


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "bypass": (Bypass, ("Bypass: no place found where one feature map", "forward_features, forward_head")),
    "moody": (Moody, ("Moody: no place found where one feature map", "give the network")),
    "no convolution": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2)),
        ("has no convolution; choose a convolutional backbone such as resnet18",),
    ),
    "no logits": (lambda: nn.Conv2d(3, 4, 3), ("gives (1, 4, 222, 222) where logits (N, K)",)),
    "patches": (only_tokens, ("is not convolutional: it cuts the image into patches once", "resnet18")),
    "size": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(4, 2)),
        ("cannot take images (N, 3, 224, 224)", "say attach(model, image_size=...)"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("training", [False, True])
def test_a_network_that_is_not_understood_is_left_as_it_was(case: str, training: bool, snapshot: Snapshot) -> None:
    make, says = REFUSED[case]
    model = make().train(training)
    before, rng = snapshot(model), torch.get_rng_state()
    with refused(BackboneError, *says):
        interp_core.attach(model)
    assert snapshot(model) == before
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_head_that_is_not_understood(protocol_net: type[Any], snapshot: Snapshot) -> None:
    class Odd(TwiceTheLogits, protocol_net):  # type: ignore[misc]
        pass

    model = Odd(nn.MaxPool2d(2)).train()
    before = snapshot(model)
    with refused(BackboneError, "Odd: its head on its last features does not give its logits", "not understood"):
        interp_core.attach(model)
    assert snapshot(model) == before


@pytest.mark.slow
def test_an_attached_model_is_left_as_it_was(make_lap: MakeLap, images: Tensor, snapshot: Snapshot) -> None:
    lap = make_lap().train()
    before = snapshot(lap)
    for network in (lap, lap.backbone, nn.Sequential(lap), copy.deepcopy(lap.backbone)):
        with refused(BackboneError, "attached to this model already: use it, or detach it first"):
            interp_core.attach(network)
    assert snapshot(lap) == before
    assert lap(images).shape == (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concepts": ()}, "at least one, got ()"),
        ({"concepts": "fur"}, "concepts of a level must be different names"),
        ({"concepts": ("fur", "fur")}, "different names, at least one, got ('fur', 'fur')"),
        ({"concepts": {"layer1": "fur"}}, "concepts of a level must be different names"),
        ({"concepts": {"layer2": ()}}, "at least one, got ()"),
        ({"concepts": {"nowhere": ("fur",)}}, "concepts for nowhere, where no gate is; gates are at layer1, layer2"),
        ({"concepts": {"layer1": ("fur",)}, "finest": 8}, "concepts for layer1, where no gate is; gates are at layer2"),
        ({"aggregate": "sum"}, "aggregate must be one of max, mean, learned, got 'sum'"),
    ],
)
def test_options_that_make_no_sense_leave_the_network_as_it_was(
    options: dict[str, Any], says: str, make_backbone: Make, snapshot: Snapshot
) -> None:
    model = make_backbone()
    before = snapshot(model)
    with refused(ContractError, says):
        interp_core.attach(model, **options)
    assert snapshot(model) == before

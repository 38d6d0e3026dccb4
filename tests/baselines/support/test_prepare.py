"""Networks, images and targets of any user, in the form that explainers work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines import explainers
from baselines.support.prepare import prepare
from interp_core.errors import ContractError
from tests.helpers.own_nets import Changed, SmallNet, plain_sequence

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 2])
FAST: dict[str, dict[str, Any]] = {
    "saliency": {},
    "occlusion": {"window": 0.5, "stride": 0.5},
    "rise": {"masks": 20},
    "lime": {"samples_at_224": 40, "segments_at_224": 16},
}


class InPlace(nn.Module):
    """Normalises its images in place, and goes on with what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(0.4).div_(0.2)
        return self.net(images)


class Outside(InPlace):
    """The same function, without a change in place."""

    def forward(self, images: Tensor) -> Tensor:
        return self.net((images - 0.4) / 0.2)


def explain(name: str, model: Any, images: Any = IMAGES, targets: Any = TARGETS, **options: Any) -> Tensor:
    return explainers[name](**FAST.get(name, {}))(model, images, targets, **options)


@pytest.mark.parametrize(
    "targets",
    [
        TARGETS.to(torch.uint8),
        TARGETS.int(),
        TARGETS.tolist(),
        TARGETS.numpy(),
        TARGETS.numpy().astype(np.uint16),
    ],
)
def test_targets_of_every_integer_type_are_the_same(targets: Any) -> None:
    assert torch.equal(prepare("x", SmallNet(), IMAGES, targets).targets, TARGETS)


@pytest.mark.parametrize(
    ("model", "images", "targets", "words"),
    [
        (SmallNet(), IMAGES, torch.tensor([0, 3]), ["0..2"]),
        (SmallNet(), IMAGES, torch.tensor([0.0, 1.0]), ["class indices"]),
        (SmallNet(1), IMAGES, 1, ["0..0", "one logit"]),
        (SmallNet(), IMAGES[0], 0, ["images[None]"]),
        (SmallNet(), IMAGES.numpy(), 0, ["tensor"]),
        (SmallNet(), IMAGES.to(torch.uint8), 0, ["floating point"]),
        (SmallNet(), IMAGES.double(), 0, ["float64", "float32"]),
        (SmallNet().bfloat16(), IMAGES, 0, ["bfloat16"]),
        (lambda images: images, IMAGES, 0, ["torch.nn.Module"]),
        (Changed(lambda maps, logits: {"logits": logits}), IMAGES, 0, ["output='logits'", "wrap"]),
        (Changed(lambda maps, logits: maps), IMAGES, 0, ["segmentation"]),
    ],
)
@pytest.mark.parametrize("name", FAST)
def test_what_is_wrong_is_said_in_one_line(name: str, model: Any, images: Any, targets: Any, words: list[str]) -> None:
    with pytest.raises(ContractError) as error:
        explain(name, model, images, targets)
    assert [word for word in [name, *words] if word not in str(error.value)] == []
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_a_selected_output_is_explained_as_the_logits_themselves(name: str) -> None:
    expected = explain(name, SmallNet())
    assert torch.equal(explain(name, Changed(lambda maps, logits: (maps, logits)), output=1), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_one_logit_is_explained_as_two_logits_of_equal_odds(name: str) -> None:
    net = SmallNet(1)
    both = Changed(lambda maps, logits: torch.cat([logits, torch.zeros_like(logits)], 1), classes=1)
    both.load_state_dict(net.state_dict())
    maps = explain(name, net, targets=0)
    assert maps.std() > 0
    torch.testing.assert_close(maps, explain(name, both, targets=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize(
    "close",
    [
        torch.jit.script,
        lambda net: torch.jit.trace(net, IMAGES),
        lambda net: torch.export.export(net, (IMAGES,)).module(),
        lambda net: torch.compile(net, backend="eager"),
        nn.DataParallel,
    ],
)
def test_closed_and_wrapped_networks_are_explained_as_the_eager_one(
    name: str, close: Callable[[nn.Module], nn.Module]
) -> None:
    net = plain_sequence()
    torch.testing.assert_close(explain(name, close(net)), explain(name, net), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grad_cam", "lrp", "full_grad", "guided_backprop", "deep_lift"])
def test_methods_of_layers_refuse_closed_networks_with_the_way_out(name: str) -> None:
    for net in (torch.jit.script(plain_sequence()), torch.export.export(plain_sequence(), (IMAGES,)).module()):
        with pytest.raises(ContractError, match="saliency"):
            explain(name, net)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saliency", "grad_cam", "lrp", "deep_lift", "full_grad", "integrated_gradients"])
def test_gradients_work_inside_inference_mode(name: str) -> None:
    net = SmallNet()
    expected = explain(name, net)
    with torch.inference_mode():
        maps = explain(name, net, IMAGES.clone(), TARGETS.clone())
        made_inside = SmallNet()
    assert torch.equal(maps, expected)
    torch.testing.assert_close(explain(name, made_inside), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saliency", "grad_cam", "integrated_gradients", "rise"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_maps_of_single_precision(name: str, kind: torch.dtype) -> None:
    expected = explain(name, SmallNet())
    maps = explain(name, SmallNet().to(kind), IMAGES.to(kind))
    assert maps.dtype is torch.float32
    assert torch.corrcoef(torch.stack([maps.flatten(), expected.flatten()]))[0, 1] > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saliency", "occlusion", "grad_cam", "score_cam", "deep_lift"])
def test_a_network_that_changes_its_images_is_explained_as_one_that_does_not(name: str) -> None:
    images = IMAGES.clone()
    torch.testing.assert_close(explain(name, InPlace().eval(), images), explain(name, Outside().eval()))
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients"])
def test_a_missing_gradient_is_named(name: str) -> None:
    class Detached(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.detach())

    with pytest.raises(ContractError, match="no gradient"):
        explain(name, Detached())

"""Metrics on networks as people bring them: one logit, wrappers, half precision, targets of any integer type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.metrics import metrics
from benchmarks.metrics.base import Batch
from interp_core.errors import InterpError
from tests.helpers.own_nets import Changed, SmallNet, plain_sequence

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 3, 32, 32)).astype(np.float32)
MAPS = RNG.random((2, 1, 32, 32)).astype(np.float32)
BATCH = Batch(SmallNet(), IMAGES, np.array([0, 2]), MAPS, np.zeros((2, 1, 32, 32), bool))
REMOVAL = ("deletion", "insertion", "pixel_flipping", "road", "irof")


@pytest.mark.parametrize("name", REMOVAL)
def test_one_logit_is_measured(name: str) -> None:
    batch = replace(BATCH, model=SmallNet(1), targets=np.zeros(2, np.int64))
    values = metrics[name]()(batch)
    assert any(np.ptp(column) > 0 for column in values.values())


def test_both_engines_agree_on_one_logit() -> None:
    batch = replace(BATCH, model=SmallNet(1), targets=np.zeros(2, np.int64))
    values = [metrics["deletion"](steps=4, engine=engine)(batch)["deletion"] for engine in ("device", "quantus")]
    np.testing.assert_allclose(*values, atol=1e-5)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_targets_of_any_integer_type_give_the_same_score(kind: type) -> None:
    expected = metrics["deletion"]()(BATCH)["deletion"]
    values = metrics["deletion"]()(replace(BATCH, targets=BATCH.targets.astype(kind)))["deletion"]
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda net: torch.jit.script(nn.Sequential(*net.body, nn.Flatten()))]
)
def test_wrapped_networks_are_measured(wrap: object) -> None:
    net = wrap(SmallNet()).eval()  # type: ignore[operator]
    assert np.isfinite(metrics["deletion"]()(replace(BATCH, model=net))["deletion"]).all()


def test_half_precision_is_measured() -> None:
    values = metrics["deletion"]()(replace(BATCH, model=SmallNet().bfloat16()))["deletion"]
    np.testing.assert_allclose(values, metrics["deletion"]()(BATCH)["deletion"], atol=0.01)


def test_a_network_that_changes_its_images_is_measured_as_one_that_does_not() -> None:
    class InPlace(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.mul_(0.5))

    class Outside(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images * 0.5)

    values = [metrics["deletion"]()(replace(BATCH, model=net))["deletion"] for net in (InPlace(), Outside())]
    np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.parametrize(
    ("batch", "word"),
    [
        (replace(BATCH, targets=np.array([0, 3])), r"0\.\.2"),
        (replace(BATCH, model=Changed(lambda maps, logits: {"logits": logits})), "logits"),
        (replace(BATCH, model=Changed(lambda maps, logits: maps)), "segmentation"),
    ],
)
def test_what_is_wrong_is_said(batch: Batch, word: str) -> None:
    with pytest.raises(InterpError, match=word):
        metrics["deletion"]()(batch)


def test_weights_that_cannot_be_drawn_again_are_told() -> None:
    net = torch.jit.script(plain_sequence())
    with pytest.raises(InterpError, match="TorchScript"):
        metrics["mprt"]()(replace(BATCH, model=net, explain=lambda *_: MAPS))


def test_metrics_without_a_network_do_not_ask_for_one() -> None:
    batch = replace(BATCH, model=Changed(lambda maps, logits: maps), masks=MAPS > 0.5)
    assert np.isfinite(metrics["auc"]()(batch)["auc"]).all()

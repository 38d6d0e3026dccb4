"""Targets in the forms that people have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interp_core.errors import InterpError
from interp_core.training import Recipe, decision_loss, evaluate, fit, is_correct
from interp_core.training.targets import targets_for, to_targets
from tests.helpers.own_nets import Changed, SmallNet

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
BITS = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
RECIPE = Recipe(epochs=1, batch_size=8, shift=0)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_class_indices_of_every_width_become_int64(kind: torch.dtype) -> None:
    assert torch.equal(targets_for(SmallNet(), IMAGES, BITS.to(kind)), BITS)


@pytest.mark.parametrize("targets", [BITS.tolist(), BITS.numpy().astype(np.uint16), tuple(BITS.tolist())])
def test_arrays_and_lists_are_targets_too(targets: Any) -> None:
    assert torch.equal(targets_for(SmallNet(), IMAGES, targets), BITS)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_one_logit_learns_a_column_of_any_type(kind: torch.dtype) -> None:
    targets = targets_for(SmallNet(1), IMAGES, BITS[:, None].to(kind))
    assert targets.is_floating_point()
    assert torch.equal(targets.float(), BITS[:, None].float())


def test_one_logit_learns_numbers_without_a_column() -> None:
    assert targets_for(SmallNet(1), IMAGES, BITS.float()).shape == (8, 1)


@pytest.mark.parametrize(
    ("classes", "targets", "words"),
    [
        (1, BITS, ["float", "(N, K)"]),
        (3, BITS + 2, ["0..2"]),
        (3, BITS - 1, ["0..2"]),
        (3, torch.zeros(8, 5), ["5", "3"]),
        (3, torch.full((8, 3), 2), ["0 or 1"]),
        (3, torch.full((8, 3), 1.5), ["0..1"]),
        (3, torch.full((8, 3), torch.nan), ["0..1"]),
        (3, "cat", ["str"]),
    ],
)
def test_what_cannot_be_learnt_is_refused(classes: int, targets: Any, words: list[str]) -> None:
    with pytest.raises(InterpError) as error:
        fit(SmallNet(classes), IMAGES, targets, recipe=RECIPE)
    assert [word for word in words if word not in str(error.value)] == []


def test_a_network_without_logits_is_refused_before_training() -> None:
    with pytest.raises(InterpError, match="output='logits'"):
        fit(Changed(lambda maps, logits: {"logits": logits}), IMAGES, BITS, recipe=RECIPE)


def test_a_source_whose_first_image_cannot_be_read_is_not_tried() -> None:
    class Unreadable:
        shape = (8, 3, 16, 16)

        def __len__(self) -> int:
            return 8

        def batches(self, _indices: Any) -> Any:
            return iter(())

    assert torch.equal(targets_for(SmallNet(), Unreadable(), BITS), BITS)


def test_indices_for_one_logit_have_no_loss() -> None:
    with pytest.raises(InterpError):
        decision_loss(torch.zeros(2, 1), torch.tensor([0, 0]))
    assert to_targets([[0, 1]]).tolist() == [[0.0, 1.0]]


def test_one_logit_is_correct_by_its_sign() -> None:
    logits = torch.tensor([[2.0], [-1.0], [1.0]])
    assert is_correct(logits, torch.tensor([1, 0, 0])).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_works_where_gradients_are_off(mode: Any) -> None:
    net = SmallNet(1)
    before = net.fc.weight.detach().clone()
    with mode():
        fit(net, IMAGES, BITS.float(), recipe=RECIPE, validation=(IMAGES, BITS))
    assert not torch.equal(net.fc.weight, before)
    assert 0 <= evaluate(net, IMAGES, BITS) <= 1


def test_a_network_of_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        net: nn.Module = SmallNet()
    with pytest.raises(InterpError, match="inference_mode"):
        fit(net, IMAGES, BITS, recipe=RECIPE)

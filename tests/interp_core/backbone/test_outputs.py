"""Logits among what a network returns."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import interp_core
from interp_core.backbone.outputs import check_logits_shape, describe, parts_of, pick
from interp_core.errors import BackboneError, ContractError
from tests.helpers.own_nets import Changed, SmallNet

LOGITS, MAPS = torch.zeros(2, 3), torch.zeros(2, 8, 4, 4)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@dataclass
class Answer:
    maps: Tensor
    logits: Tensor


CONTAINERS: list[tuple[Any, Any]] = [
    (lambda maps, logits: {"maps": maps, "logits": logits}, "logits"),
    (lambda maps, logits: (maps, logits), 1),
    (lambda maps, logits: [logits, maps], 0),
    (lambda maps, logits: SimpleNamespace(maps=maps, logits=logits), "logits"),
    (Answer, "logits"),
    (lambda maps, logits: {"deep": {"logits": logits}}, lambda result: result["deep"]["logits"]),
    (lambda maps, logits: logits[:, 0], lambda values: values.reshape(-1, 1)),
    (lambda maps, logits: maps, lambda maps: maps.mean((2, 3))),
]


def test_a_part_is_picked_by_key_index_attribute_and_function() -> None:
    assert pick({"a": LOGITS}, "a") is LOGITS
    assert pick((MAPS, LOGITS), -1) is LOGITS
    assert pick(SimpleNamespace(a=LOGITS), "a") is LOGITS
    assert torch.equal(pick(MAPS, lambda maps: maps.sum((2, 3))), torch.zeros(2, 8))


@pytest.mark.parametrize(("outputs", "output"), [({"a": LOGITS}, "b"), ((LOGITS,), 1), (LOGITS, "logits")])
def test_a_missing_part_names_those_that_exist(outputs: Any, output: Any) -> None:
    with pytest.raises(ContractError) as error:
        pick(outputs, output)
    assert repr(output) in str(error.value)
    assert describe(outputs) in str(error.value)


@pytest.mark.parametrize("output", [None, True, 1.5, ["a"]])
def test_other_selectors_are_refused(output: Any) -> None:
    with pytest.raises(ContractError):
        interp_core.select_output(SmallNet(), output)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"maps": MAPS, "scores": LOGITS}, ["'scores'", "output='scores'", "wrap"]),
        ((MAPS, LOGITS), ["output=1", "wrap"]),
        (SimpleNamespace(logits=LOGITS), ["output='logits'"]),
        (MAPS, ["(2, 8, 4, 4)", "segmentation", "mean((2, 3))"]),
        (MAPS[..., :1, :1], ["flatten(1)"]),
        (LOGITS[:, 0], ["reshape(-1, 1)"]),
        (LOGITS.argmax(1)[:, None], ["int64"]),
        (LOGITS.repeat(2, 1), ["one row"]),
        (None, ["NoneType", "wrap"]),
        ({}, ["dict", "wrap"]),
    ],
)
def test_what_is_not_logits_is_refused_with_the_way_to_them(outputs: Any, words: list[str]) -> None:
    with pytest.raises(BackboneError) as error:
        check_logits_shape(outputs, "Net", 2)
    assert [word for word in words if word not in str(error.value)] == []
    assert "\n" not in str(error.value)


def test_logits_pass() -> None:
    assert check_logits_shape(LOGITS, "Net", 2) is LOGITS
    assert parts_of(LOGITS) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("change", "output"), CONTAINERS)
def test_lap_explains_the_selected_logits_and_gives_the_network_back(change: Any, output: Any) -> None:
    net = Changed(change)
    with pytest.raises(BackboneError, match="logits"):
        interp_core.attach(net, image_size=32)
    expected = pick(net(IMAGES), output)
    lap = interp_core.attach(net, image_size=32, output=output)
    assert torch.equal(lap(IMAGES), expected)
    assert lap.explain(IMAGES).gap < 1e-5
    assert interp_core.detach(lap) is net

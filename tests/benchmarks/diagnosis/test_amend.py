"""Every repair makes the toy network depend less on the corner, and leaves the original as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.shortcut_task import (
    REGION,
    SIDE,
    RedCorner,
    accuracy,
    corner_finding,
    paint_red,
    rare_images,
    shape_images,
    shortcut_case,
    train_shortcut_network,
    with_swapped_corners,
)

import interp_core
from benchmarks.diagnosis import amend as amend_module
from benchmarks.diagnosis.amend import amend, copy_subject, save_amended
from benchmarks.diagnosis.region import save_regions
from benchmarks.diagnosis.repairs import repairs
from interp_core.errors import ContractError, UnknownNameError

pytestmark = pytest.mark.slow

RATE = {"learning_rate": 3e-3, "epochs": 3}
# Least accuracy with swapped corners after each repair; 0 before.
REPAIRS = {
    "exchange": (RATE, 0.8),
    "inpaint": ({**RATE, "epochs": 5}, 0.2),
    "forbid": (RATE, 0.8),
    "last_layer": ({"layers": 2}, 0.8),
    "distil": ({**RATE, "epochs": 4, "keep": 0.25}, 0.8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("diagnosis")
    save_regions(path, {"corner": REGION})
    return path


@pytest.fixture(scope="module")
def case():
    return shortcut_case()


@pytest.mark.parametrize("name", REPAIRS)
def test_repairs_lower_the_dependence_on_the_corner(name, case, folder):
    subject, train, test = case
    swapped = with_swapped_corners(test)
    weights = {key: value.clone() for key, value in subject.lap.state_dict().items()}
    assert accuracy(subject, swapped) < 0.3
    fields, least = REPAIRS[name]
    amended = amend(subject, corner_finding(), folder, train, repair=repairs[name](**fields))
    assert accuracy(amended.subject, swapped) > least
    assert accuracy(amended.subject, test) >= accuracy(subject, test) - 0.03
    assert all(torch.equal(value, weights[key]) for key, value in subject.lap.state_dict().items())
    assert not subject.lap.training
    assert not amended.subject.lap.training


def test_boxes_of_the_object_are_enough(case, folder):
    subject, train, test = case
    rows = np.arange(60)
    boxes = torch.from_numpy(rows), torch.from_numpy(train.masks[rows])
    finding = corner_finding(region=None)
    validation = shape_images(60, 0.95, 2)
    amended = amend(
        subject, finding, folder, train, boxes=boxes, validation=validation, repair=repairs["region"](weight=3, **RATE)
    )
    swapped = with_swapped_corners(test)
    assert accuracy(amended.subject, swapped) > accuracy(subject, swapped) + 0.2
    again = amend(subject, finding, folder, train, boxes=boxes, epochs=1)
    assert again.repair.name == "region"
    assert again.facts["boxes"] == 60


def test_a_rare_cue_is_pasted_onto_the_other_class(folder, monkeypatch):
    monkeypatch.setattr(amend_module, "load_region", lambda *_: RedCorner())
    train, test = rare_images(400, 0.8, 0), rare_images(200, 0.0, 1)
    subject = train_shortcut_network(train, steps=90)
    pasted = replace(test, images=test.images.copy())
    paint_red(pasted.images, test.targets == 1)
    before = accuracy(subject, pasted)
    finding = corner_finding(classes=("cross",))
    amended = amend(subject, finding, folder, train, repair=repairs["exchange"](**RATE))
    assert before < 0.7
    assert accuracy(amended.subject, pasted) > before + 0.2
    assert amended.facts["training images with the cue"] < 200


def test_a_property_is_shifted(folder):
    train, test = shape_images(400, 0.5, 0), shape_images(200, 0.5, 1)
    dark = [replace(part, images=darken(part.images, part.targets == 0)) for part in (train, test)]
    other = replace(test, images=darken(test.images, test.targets == 1))
    subject = train_shortcut_network(dark[0], steps=40)
    finding = corner_finding(region=None, property="brightness")
    amended = amend(subject, finding, folder, dark[0], repair=repairs["augment"](**RATE))
    assert accuracy(subject, other) < 0.5
    assert accuracy(amended.subject, other) > accuracy(subject, other) + 0.3
    assert amend(subject, finding, folder, dark[0], epochs=1).repair.name == "augment"


def darken(images, chosen):
    return np.where(chosen[:, None, None, None], images * 0.55, images).astype(np.uint8)


def test_a_repair_is_saved(case, folder, tmp_path):
    subject, train, test = case
    amended = amend(subject, corner_finding(), folder, train, repair=repairs["last_layer"](layers=1))
    assert 0.5 < amended.probe.recovery < 1
    path = save_amended(amended, tmp_path, command="test", facts={"network": "toy"})
    facts = json.loads((tmp_path / "amend.json").read_text())
    assert facts["repair"]["name"] == "last_layer"
    assert facts["finding"]["key"] == corner_finding().key
    assert facts["seed"] == 0
    loaded = interp_core.load(path.with_suffix(""), backbone=copy_subject(subject).lap.release())
    images = subject.normalise(test.images[:4])
    torch.testing.assert_close(loaded(images), amended.subject.lap(images))


def test_the_same_seed_gives_the_same_network(case, folder):
    subject, train, _ = case
    small = train.take(np.arange(64))
    twins = [amend(subject, corner_finding(), folder, small, repair="exchange", epochs=1, seed=3) for _ in range(2)]
    first, second = (twin.subject.lap.state_dict() for twin in twins)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert twins[0].repair.epochs == 1


def test_errors_say_what_is_missing(case, folder):
    subject, train, _ = case
    with pytest.raises(UnknownNameError):
        amend(subject, corner_finding(), folder, train, repair="magic")
    with pytest.raises(ContractError):
        amend(subject, corner_finding(), folder, train, repair="augment")
    with pytest.raises(ContractError):
        amend(subject, corner_finding(region=None), folder, train)
    with pytest.raises(ContractError):
        amend(subject, corner_finding(region="elsewhere"), folder, train)
    with pytest.raises(ContractError):
        amend(subject, corner_finding(), folder, replace(train, targets=np.full(len(train), -1)))
    save_regions(folder / "empty", {"corner": type(REGION)(np.zeros((SIDE, SIDE), bool))})
    with pytest.raises(ContractError):
        amend(subject, corner_finding(), folder / "empty", train)

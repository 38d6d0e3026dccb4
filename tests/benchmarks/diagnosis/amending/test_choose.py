"""The choice of a repair, case by case."""

from __future__ import annotations

import pytest
from helpers.shortcut_task import corner_finding

from benchmarks.diagnosis.amending.choose import choose_repair
from benchmarks.diagnosis.amending.probe import Probe
from benchmarks.diagnosis.repairs import repairs
from interp_core.errors import ContractError


def probe(exchanged=0.9, original=0.92, linear_head=True, area=0.05):
    return Probe(
        exchanged=exchanged, original=original, chance=0.5, linear_head=linear_head, area=area, present=0.5, n=100
    )


@pytest.mark.parametrize(
    ("finding", "probed", "has_boxes", "name"),
    [
        (corner_finding(), probe(), False, "last_layer"),
        (corner_finding(), probe(), True, "last_layer"),
        (corner_finding(), probe(linear_head=False), False, "exchange"),
        (corner_finding(), probe(exchanged=0.6), False, "exchange"),
        (corner_finding(), probe(exchanged=None), False, "exchange"),
        (corner_finding(), None, False, "exchange"),
        (corner_finding(), probe(area=0.7), False, "forbid"),
        (corner_finding(), probe(area=0.7), True, "region"),
        (corner_finding(region=None), None, True, "region"),
        (corner_finding(region=None, property="brightness"), None, False, "augment"),
        (corner_finding(region=None, property="brightness"), None, True, "augment"),
    ],
)
def test_choice(finding, probed, has_boxes, name):
    choice = choose_repair(finding, probed, has_boxes)
    assert choice.repair.name == name
    assert choice.reason


@pytest.mark.parametrize(("exchanged", "relearn"), [(0.55, True), (0.8, False), (None, False)])
def test_features_that_are_not_there_are_learned_longer(exchanged, relearn):
    repair = choose_repair(corner_finding(), probe(exchanged, 0.9, linear_head=False), False).repair
    assert repair.relearn is relearn
    assert (repair.epochs > repairs["exchange"]().epochs) is relearn


def test_nothing_to_repair():
    with pytest.raises(ContractError):
        choose_repair(corner_finding(region=None), None, False)


@pytest.mark.parametrize(
    ("exchanged", "original", "recovery"), [(0.5, 1.0, 0.0), (1.0, 1.0, 1.0), (0.75, 1.0, 0.5), (0.4, 0.9, 0.0)]
)
def test_recovery(exchanged, original, recovery):
    assert probe(exchanged, original).recovery == pytest.approx(recovery)


def test_every_repair_says_what_it_is():
    for name, repair in repairs.items():
        assert repair.name == name
        assert repair.title
        assert repair.source
        assert repair.needs

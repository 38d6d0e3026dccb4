from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.evidence import make_context, make_evidence

from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.evidence import GRID
from benchmarks.diagnosis.finding import Status
from interp_core.datasets.contract import ImageSet

pytestmark = pytest.mark.slow
SIDE = GRID * 2


def scenes(n, on_object, seed=0):
    """Build objects of 6 x 6 cells at random positions, with evidence on them or in the upper left corner."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, 1, SIDE, SIDE), bool)
    maps = np.abs(rng.normal(size=(n, GRID, GRID))).astype(np.float32) * 0.05
    for i, (row, column) in enumerate(rng.integers(2, GRID - 6, (n, 2))):
        masks[i, 0, 2 * row : 2 * row + 12, 2 * column : 2 * column + 12] = True
        if on_object[i]:
            maps[i, row + 2 : row + 4, column + 2 : column + 4] += 5
        else:
            maps[i, :2, :2] += 5
    cells = masks[:, 0].reshape(n, GRID, 2, GRID, 2).mean((2, 4))
    inside = (maps * cells).sum((1, 2)) / maps.sum((1, 2))
    evidence = make_evidence(n, accuracy=1.0, maps=maps, inside=inside, area=cells.mean((1, 2)))
    images = np.zeros((n, 3, SIDE, SIDE), np.uint8)
    context = replace(make_context(evidence), images=ImageSet(images, evidence.targets, masks, evidence.ids))
    return evidence, context


def test_evidence_in_a_corner_is_found_and_evidence_on_the_object_is_not():
    evidence, context = scenes(60, np.arange(60) % 2 == 0)
    result = checks["outside"]().run(evidence, context)
    assert result.status is Status.failed
    assert [suspect.classes for suspect in result.suspects] == [(1,)]
    assert result.suspects[0].value > 0.9
    assert 0 < result.suspects[0].details["outside other masks"] < 1
    assert result.picture.width <= 900


def test_evidence_on_the_objects_passes():
    evidence, context = scenes(60, np.ones(60, bool))
    assert checks["outside"]().run(evidence, context).status is Status.passed


def test_evenly_spread_evidence_is_rarely_an_alarm(monkeypatch):
    monkeypatch.setattr("benchmarks.diagnosis.checks.outside.draw", lambda paint: None)

    def alarm(seed):
        rng = np.random.default_rng(seed)
        area = rng.uniform(0.1, 0.5, 60)
        evidence = make_evidence(60, inside=np.clip(area + rng.normal(0, 0.1, 60), 0, 1), area=area, seed=seed)
        return checks["outside"](permutations=39).run(evidence, make_context(evidence)).status is Status.failed

    assert np.mean([alarm(seed) for seed in range(20)]) <= 0.10


def test_without_masks_it_is_not_run():
    evidence = make_evidence(20)
    assert checks["outside"]().missing(evidence, make_context(evidence)) is not None

"""Every registered check gives a clear answer on degenerate evidence."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evidence import make_context, make_evidence

import benchmarks.diagnosis.checks  # noqa: F401
from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.evidence import GRID
from benchmarks.diagnosis.finding import Status

pytestmark = pytest.mark.slow
WITH_NETWORK = {"patches"}  # cannot do without one; its own tests have a network
METADATA = {"site": np.array(list("abcde") * 8), "age": np.arange(40) % 23 + 0.5}

CASES = {
    "random": lambda: make_evidence(40, 3),
    "one class": lambda: make_evidence(40, 1),
    "one class of two": lambda: make_evidence(40, 2, targets=np.zeros(40, np.int64)),
    "ten images": lambda: make_evidence(10, 2),
    "one image": lambda: make_evidence(1, 2),
    "all maps zero": lambda: make_evidence(
        40, maps=np.zeros((40, GRID, GRID), np.float32), weights=np.zeros((40, 4), np.float32)
    ),
    "no labels": lambda: make_evidence(40, 2, targets=np.full(40, -1), metadata=METADATA),
    "several labels": lambda: make_evidence(40, 3, targets=np.eye(3, dtype=np.float32)[np.arange(40) % 3]),
    "metadata": lambda: make_evidence(40, 3, metadata=METADATA),
    "some masks": lambda: make_evidence(
        40, inside=np.where(np.arange(40) % 3, 0.5, np.nan), area=np.where(np.arange(40) % 3, 0.2, np.nan)
    ),
    "constant properties": lambda: make_evidence(40, properties=np.ones((40, 8), np.float32)),
    "equal features": lambda: make_evidence(
        40, features=np.zeros((40, 6), np.float16), cells=np.zeros((40, 4, 5), np.float16)
    ),
    "equal hashes": lambda: make_evidence(40, hashes=np.zeros(40, np.uint64)),
    "no errors": lambda: make_evidence(40, 2, accuracy=1.0),
    "only errors": lambda: make_evidence(40, 2, accuracy=0.0),
    "classes without images": lambda: make_evidence(40, 6, targets=np.arange(40) % 2),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", sorted(set(checks) - WITH_NETWORK))
def test_a_check_answers_clearly(name, case):
    evidence, check = CASES[case](), checks[name](permutations=19)
    context = make_context(evidence, other={"test": (evidence.ids[:3], evidence.hashes[:3])})
    reason = check.missing(evidence, context)
    result = None if reason else check.run(evidence, context)
    if result is None or result.reason is not None:
        assert reason or result.reason
        return
    assert result.status in Status
    assert result.sentence
    assert result.picture is None or result.picture.width <= 900
    for value in (result.value, result.null, result.p):
        assert value is None or np.isfinite(value)
    for suspect in result.suspects:
        check_suspect(suspect, len(evidence), len(evidence.classes))


def check_suspect(suspect, size, classes):
    assert suspect.key
    assert suspect.title
    assert np.isfinite(suspect.value)
    assert suspect.p is None or 0 < suspect.p <= 1
    assert len(np.unique(suspect.members)) == len(suspect.members)
    assert ((suspect.members >= 0) & (suspect.members < size)).all()
    assert all(0 <= cls < classes for cls in suspect.classes)


@pytest.mark.parametrize("name", sorted(checks))
def test_a_check_has_a_title(name):
    assert checks[name].title not in ("", name)

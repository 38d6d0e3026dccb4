from __future__ import annotations

import numpy as np
import pytest
from helpers.evidence import make_context, make_evidence

from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.checks.overlap import quasi_independence
from benchmarks.diagnosis.finding import Status

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("benchmarks.diagnosis.checks.overlap.draw", lambda paint: None)


def confused(alike):
    """Build five classes of which 0 and 3 are confused; `alike` gives them the same decisive features."""
    rng = np.random.default_rng(0)
    targets = np.arange(500) % 5
    answers = targets.copy()
    wrong = rng.random(500) < 0.1
    answers[wrong] = (targets[wrong] + rng.integers(1, 5, wrong.sum())) % 5
    pair = np.isin(targets, (0, 3)) & (rng.random(500) < 0.3)
    answers[pair] = 3 - targets[pair]
    kinds = np.where(targets == 3, 0, targets) if alike else targets
    cells = np.eye(5)[kinds][:, None] * 3 + rng.normal(size=(500, 4, 5))
    probabilities = np.eye(5, dtype=np.float32)[answers] * 0.5 + 0.1
    return make_evidence(500, 5, targets=targets, cells=cells.astype(np.float16), probabilities=probabilities)


def run(evidence):
    return checks["overlap"]().run(evidence, make_context(evidence))


def test_a_confused_pair_with_alike_evidence_is_named():
    evidence = confused(alike=True)
    result = run(evidence)
    assert result.status is Status.warned
    assert [suspect.classes for suspect in result.suspects] == [(0, 3)]
    members = result.suspects[0].members
    assert np.isin(evidence.targets[members], (0, 3)).all()
    assert result.suspects[0].details["similarity"] > 0.5


def test_a_confused_pair_with_different_evidence_is_not():
    assert run(confused(alike=False)).status is Status.passed


def test_even_confusion_is_no_alarm():
    alarms = [bool(run(make_evidence(200, 4, seed, accuracy=0.5)).suspects) for seed in range(5)]
    assert np.mean(alarms) <= 0.2


def test_quasi_independence_keeps_the_margins():
    table = np.array([[0, 8, 2], [6, 0, 4], [1, 3, 0]])
    fitted = quasi_independence(table) * table.sum(1, keepdims=True)
    np.testing.assert_allclose(fitted.sum(0), table.sum(0), atol=0.05)
    np.testing.assert_allclose(np.diag(fitted), 0)

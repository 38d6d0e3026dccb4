from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers.evidence import make_context, make_evidence
from scipy.special import softmax

from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.finding import Status

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _needs_cleanlab():
    pytest.importorskip("cleanlab")


def run(evidence, **fields):
    return checks["labels"](**fields).run(evidence, make_context(evidence))


def answered(n, classes, sharpness, flips, seed=0):
    """Build probabilities of an overconfident network, and labels of which a share is flipped."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), truth] += sharpness
    flipped = rng.random(n) < flips
    labels = np.where(flipped, (truth + 1) % classes, truth)
    probabilities = softmax(1.5 * sharpness * logits, 1).astype(np.float32)
    return make_evidence(n, classes, targets=labels, probabilities=probabilities), flipped


@pytest.mark.parametrize("classes", [2, 10])
def test_flipped_labels_are_found(classes):
    evidence, flipped = answered(600, classes, 4, 0.08)
    result = run(evidence)
    assert result.status is Status.failed
    members = result.suspects[0].members
    assert flipped[members].mean() > 0.8
    assert flipped[members].sum() > 0.8 * flipped.sum()
    assert result.null < 0.5 * result.value


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharpness", [1.5, 3])
def test_an_ambiguous_task_is_no_alarm(sharpness, seed):
    evidence, _ = answered(600, 4, sharpness, 0.0, seed)
    result = run(evidence)
    assert result.status in (Status.passed, Status.warned)
    assert abs(result.value - result.null) < 0.05


def test_training_images_are_judged_by_their_neighbours():
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 3
    labels = truth.copy()
    labels[:15] = (truth[:15] + 1) % 3
    features = (np.eye(6)[truth] * 8 + rng.normal(size=(300, 6))).astype(np.float16)
    evidence = make_evidence(300, 3, targets=labels, features=features, accuracy=1.0)
    result = run(evidence)
    members = result.suspects[0].members
    assert (members < 15).sum() >= 8
    assert (members < 15).mean() > 0.8
    assert "nearest" in result.sentence


def test_without_cleanlab_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    result = run(make_evidence(30))
    assert result.status is Status.not_run
    assert "pip install" in result.reason

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from helpers.evidence import make_context, make_evidence

from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.checks.groups import compare_errors, find_groups
from benchmarks.diagnosis.evidence import GRID
from benchmarks.diagnosis.finding import Status

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("benchmarks.diagnosis.checks.groups.draw", lambda paint: None)


def run(evidence, **fields):
    return checks["groups"](**fields).run(evidence, make_context(evidence))


def tagged(n, tag, wrong, seed=0):
    """Build two classes in which images with a tag are answered 1, with their evidence in a corner."""
    rng = np.random.default_rng(seed)
    answers = np.where(tag, 1, np.arange(n) % 2)
    targets = np.where(wrong, 1 - answers, answers)
    maps = np.abs(rng.normal(size=(n, GRID, GRID))).astype(np.float32) * 0.3
    maps[tag, :3, :3] += 4
    cells = rng.normal(size=(n, 4, 5)).astype(np.float16)
    cells[tag] += 3
    probabilities = np.eye(2, dtype=np.float32)[answers] * 0.8 + 0.1
    return make_evidence(n, targets=targets, maps=maps, cells=cells, probabilities=probabilities)


def test_a_group_with_errors_is_found():
    rng = np.random.default_rng(0)
    tag = rng.random(400) < 0.15
    wrong = np.where(tag, rng.random(400) < 0.6, rng.random(400) < 0.05)
    result = run(tagged(400, tag, wrong))
    assert result.status is Status.failed
    first = result.suspects[0]
    assert first.classes == (1,)
    assert tag[first.members].mean() > 0.9
    assert tag[first.members[:10]].all()
    assert first.details["error rate"] > 0.4


def test_without_labels_a_group_with_doubt_is_found():
    tag = np.random.default_rng(0).random(400) < 0.15
    evidence = tagged(400, tag, np.zeros(400, bool))
    sure = evidence.probabilities.max(1, keepdims=True)
    doubtful = np.where(tag[:, None], 0.5 + (evidence.probabilities - 0.5) * 0.1 / sure, evidence.probabilities)
    evidence = replace(evidence, targets=np.full(400, -1), probabilities=doubtful)
    result = run(evidence)
    assert result.status is Status.warned
    first = result.suspects[0]
    assert (first.classes, first.in_data) == ((1,), None)
    assert tag[first.members].mean() > 0.9
    assert first.details["doubt"] == pytest.approx(1 - doubtful.max(1)[first.members].mean(), abs=1e-6)
    calm = replace(evidence, probabilities=tagged(400, tag, np.zeros(400, bool)).probabilities)
    assert run(calm).status is Status.passed


def test_a_dense_group_without_errors_is_left_alone():
    rng = np.random.default_rng(1)
    tag = rng.random(400) < 0.15
    assert run(tagged(400, tag, rng.random(400) < 0.1)).status is not Status.failed


def test_false_alarms_are_rare():
    alarms = [run(make_evidence(90, 2, seed), permutations=39).status is Status.failed for seed in range(40)]
    print(f"share with an alarm: {np.mean(alarms):.3f}")
    assert np.mean(alarms) <= 0.10


def test_rates_are_those_of_the_images():
    evidence = make_evidence(120, 2)
    groups = find_groups(evidence, 0)
    scored = compare_errors(groups, evidence, 19, np.random.default_rng(0))
    wrong = ~evidence.correct
    for s in scored:
        assert s.errors == pytest.approx(wrong[s.group.members].mean(), abs=1e-5)
        assert s.base == pytest.approx(wrong[s.group.others].mean(), abs=1e-5)


def test_many_images_take_seconds():
    n = 30_000
    evidence = make_evidence(n, 3, maps=np.random.default_rng(0).random((n, GRID, GRID), np.float32))
    start = time.perf_counter()
    run(evidence, permutations=19)
    print(f"{time.perf_counter() - start:.1f} s")

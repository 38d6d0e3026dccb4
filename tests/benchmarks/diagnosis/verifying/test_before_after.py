"""Paired comparisons against values worked out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.diagnosis.finding import Status
from benchmarks.diagnosis.verifying.before_after import (
    auroc,
    compare_auroc,
    compare_dependence,
    compare_means,
    compare_parts,
    compare_shares,
    make_row,
)
from benchmarks.diagnosis.verifying.verification import Change, FindingResult, combine, conclude
from benchmarks.statistics.intervals import Resampling

RESAMPLING = Resampling(resamples=400)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_areas_are_those_of_scikit_learn(generator):
    scores, labels = generator.integers(0, 9, (3, 50)) / 9, generator.random((3, 50)) < 0.3
    expected = [roc_auc_score(label, score) for score, label in zip(scores, labels, strict=True)]
    np.testing.assert_allclose(auroc(scores, labels), expected)
    assert np.isnan(auroc(scores, np.ones_like(labels))).all()


def test_the_area_of_several_classes_is_a_mean(generator):
    labels = np.arange(3) == generator.integers(0, 3, 90)[:, None]
    before, after = generator.random((90, 3)), labels + generator.random((90, 3))
    row = compare_auroc(before, after, labels, RESAMPLING)
    assert row.before == pytest.approx(np.mean([roc_auc_score(labels[:, k], before[:, k]) for k in range(3)]))
    assert row.after == pytest.approx(1)
    assert row.low > 0
    assert row.verdict is Change.better
    assert compare_auroc(before, after, np.zeros_like(labels), RESAMPLING) is None


def test_means_are_paired(generator):
    base = generator.random(100)
    row = compare_means("x", "accuracy", base, base + 0.01, RESAMPLING)
    assert (row.low, row.high) == (pytest.approx(0.01), pytest.approx(0.01))
    assert row.verdict is Change.better
    assert compare_means("x", "map", base, base + 0.01, RESAMPLING, lower=True).verdict is Change.worse
    assert compare_means("x", "map", base, base[::-1], RESAMPLING).verdict is Change.same
    assert compare_means("x", "map", base[:1], base[:1], RESAMPLING).verdict is Change.unknown
    assert compare_means("x", "map", np.array([np.nan, 1, 2]), np.ones(3), RESAMPLING).n == 2


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (0.5, 0.1, Change.better),
        (-0.5, -0.1, Change.better),
        (0.1, 0.5, Change.worse),
        (0.3, -0.4, Change.worse),
        (0.3, -0.1, Change.better),
        (0.3, 0.3, Change.same),
        (-0.02, 0.05, Change.same),
        (0.05, 0.0, Change.same),
    ],
)
def test_dependence_is_better_near_zero(before, after, verdict, generator):
    noise = generator.normal(0, 0.01, (2, 60))
    noise -= noise.mean(1, keepdims=True)
    assert compare_dependence("x", before + noise[0], after + noise[1], RESAMPLING).verdict is verdict


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(0.5, 0.1, Change.better), (0.01, 0.04, Change.same), (0.01, 0.3, Change.worse), (0.3, 0.3, Change.same)],
)
def test_a_share_may_rise_to_that_of_an_even_map(before, after, verdict, generator):
    noise = generator.normal(0, 0.002, (2, 60))
    noise -= noise.mean(1, keepdims=True)
    row = compare_shares("x", before + noise[0], after + noise[1], np.full(60, 0.06), RESAMPLING)
    assert row.verdict is verdict


def test_the_worst_part_comes_first(generator):
    parts = {"a": np.arange(200) < 100, "b": np.arange(200) >= 100, "none": np.zeros(200, bool)}
    before = np.where(parts["a"], 1.0, generator.random(200) < 0.2)
    after = np.where(parts["a"], 1.0, generator.random(200) < 0.9)
    worst, *rows = compare_parts("group", before, after, parts, RESAMPLING)
    assert [row.name for row in rows] == ["accuracy of group a", "accuracy of group b"]
    assert worst.before == pytest.approx(before[100:].mean())
    assert worst.verdict is Change.better
    assert [row.verdict for row in rows] == [Change.same, Change.better]


def result(status, number=1):
    return FindingResult(
        number=number, key="k", title="t", answers=Change.same, map=None, status=status, sentence="because"
    )


def test_the_conclusion_needs_all_findings_and_no_loss():
    good = make_row("accuracy", "accuracy", 0.8, 0.8, (-0.1, 0.1), 10)
    bad = make_row("AUROC", "accuracy", 0.8, 0.7, (-0.15, -0.05), 10)
    assert conclude([result(Status.passed)], [good])["succeeded"]
    assert not conclude([result(Status.passed)], [good, bad])["succeeded"]
    assert conclude([result(Status.passed)], [bad])["worse"] == ("AUROC",)
    assert conclude([result(Status.passed), result(Status.warned)], [good])["status"] is Status.warned
    assert conclude([result(Status.warned), result(Status.failed)], [good])["status"] is Status.failed
    assert not conclude([], [good])["succeeded"]


def test_verdicts_combine():
    assert combine([]) is Change.unknown
    assert combine([Change.same, Change.better]) is Change.better
    assert combine([Change.worse, Change.better]) is Change.worse

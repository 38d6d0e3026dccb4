from __future__ import annotations

import time

import numpy as np
import pytest
from helpers.evidence import make_context, make_evidence

from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.checks.properties import depth_in_range
from benchmarks.diagnosis.finding import Status
from benchmarks.diagnosis.nulls import bin_codes, count_bins, separation, step_down_p
from benchmarks.diagnosis.properties import NAMES


def run(evidence, **fields):
    return checks["properties"](**fields).run(evidence, make_context(evidence))


def planted(n, classes, cls, column, values, targets=None, seed=0):
    """Build evidence in which a property of one class has other values."""
    evidence = make_evidence(n, classes, seed, **({} if targets is None else {"targets": targets}))
    chosen = evidence.targets == cls
    evidence.properties[chosen, column] = values(np.random.default_rng(seed + 1), chosen.sum())
    return evidence


def test_separation_of_a_class_that_is_given_away_is_one():
    labels = np.arange(100) % 10
    codes = bin_codes(np.where(labels == 3, 5.0, np.arange(100) / 100))
    assert separation(count_bins(codes, labels, 10))[3] == pytest.approx(1)


@pytest.mark.slow
def test_a_property_that_gives_away_one_of_ten_classes_is_found():
    result = run(planted(300, 10, 4, 0, lambda rng, n: rng.normal(6, 1, n)))
    assert result.status is Status.failed
    assert [suspect.key for suspect in result.suspects] == ["brightness"]
    suspect = result.suspects[0]
    assert suspect.classes == (4,)
    assert suspect.value == pytest.approx(1, abs=0.02)
    assert suspect.p <= 0.05
    assert suspect.amount == pytest.approx(6, abs=0.7)
    assert suspect.edit is not None
    assert suspect.in_data


@pytest.mark.slow
def test_a_property_of_a_class_of_a_tenth_is_found():
    targets = (np.arange(200) % 10 == 0).astype(np.int64)
    result = run(planted(200, 2, 1, 6, lambda rng, n: rng.normal(-5, 1, n), targets))
    assert result.status is Status.failed
    assert result.suspects[0].key == "sharpness"
    assert result.suspects[0].classes == (1,)
    assert result.suspects[0].amount < 0


@pytest.mark.slow
def test_a_class_of_middling_values_is_found():
    result = run(planted(400, 2, 1, 1, lambda rng, n: rng.normal(0, 0.1, n)))
    assert result.suspects[0].key == "contrast"
    assert result.suspects[0].value > 0.8
    assert result.suspects[0].edit is None


@pytest.mark.slow
def test_imbalance_alone_is_no_alarm():
    targets = (np.arange(2000) % 10 == 0).astype(np.int64)
    result = run(make_evidence(2000, 2, targets=targets))
    assert result.status is Status.passed
    assert not result.suspects


@pytest.mark.slow
def test_false_alarms_are_rare(monkeypatch):
    monkeypatch.setattr("benchmarks.diagnosis.checks.properties.draw", lambda paint: None)
    alarms = [
        run(make_evidence(80, 2 + seed % 4, seed), permutations=39).status is Status.failed for seed in range(100, 140)
    ]
    print(f"share with an alarm: {np.mean(alarms):.3f}")
    assert np.mean(alarms) <= 0.10


@pytest.mark.slow
def test_answers_that_follow_the_property_within_labels_reach_the_second_rung():
    evidence = planted(300, 2, 1, 0, lambda rng, n: rng.normal(1.5, 1, n))
    assert run(evidence).suspects[0].in_maps is False
    positive = 1 / (1 + np.exp(-evidence.properties[:, 0]))
    using = make_evidence(
        300, properties=evidence.properties, probabilities=np.column_stack([1 - positive, positive]).astype(np.float32)
    )
    assert run(using).suspects[0].in_maps is True


@pytest.mark.slow
def test_properties_of_files_are_tested():
    evidence = make_evidence(100)
    width = np.where(evidence.targets == 1, 640, 512)
    evidence = make_evidence(100, metadata={"file:width": width, "file:format": np.array(["png"] * 100)})
    assert [suspect.key for suspect in run(evidence).suspects] == ["file:width"]
    assert run(evidence).suspects[0].edit is None


@pytest.mark.slow
def test_a_missing_value_can_give_the_label_away():
    evidence = make_evidence(100)
    values = np.where(evidence.targets == 1, np.nan, np.random.default_rng(0).normal(size=100))
    result = run(make_evidence(100, metadata={"file:exposure": values}))
    assert result.suspects[0].key == "file:exposure"


@pytest.mark.slow
def test_without_labels_it_speaks_of_answers_and_only_warns():
    evidence = planted(200, 2, 1, 0, lambda rng, n: rng.normal(4, 1, n))
    answers = evidence.targets
    unlabelled = make_evidence(
        200,
        targets=np.full(200, -1),
        properties=evidence.properties,
        probabilities=np.eye(2, dtype=np.float32)[answers],
    )
    result = run(unlabelled)
    assert result.status is Status.warned
    assert result.suspects[0].in_data is None


@pytest.mark.slow
def test_the_picture_fits_a_page():
    picture = run(make_evidence(60)).picture
    assert picture is not None
    assert picture.width <= 900


def test_depth_is_positive_in_the_range_of_the_class():
    values = np.linspace(0, 1, 100)
    chosen = (values > 0.4) & (values < 0.6)
    for mask in (chosen, ~chosen, values > 0.7):
        assert ((depth_in_range(values, mask) > 0) == mask).mean() >= 0.97  # edges are those of bins
    assert depth_in_range(values, values > 0.7).argmax() == 99


def test_step_down_p_is_that_of_the_maximum_for_the_largest():
    rng = np.random.default_rng(0)
    values, null = np.array([6.0, 0.0, 0.1]), rng.normal(size=(99, 3))
    p = step_down_p(values, null)
    assert p[0] == pytest.approx(0.01)
    assert p[1:].min() > 0.3


@pytest.mark.slow
def test_a_hundred_thousand_images_take_seconds():
    evidence = make_evidence(100_000, 10, cells=np.zeros((100_000, 1, 1)), maps=np.zeros((100_000, 1, 1)))
    start = time.perf_counter()
    result = checks["properties"](permutations=19).run(evidence, make_context(evidence))
    print(f"{time.perf_counter() - start:.1f} s at 19 permutations")
    assert result.status is Status.passed
    assert len(NAMES) == evidence.properties.shape[1]

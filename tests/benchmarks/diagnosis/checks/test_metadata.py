from __future__ import annotations

import numpy as np
import pytest
from helpers.evidence import make_context, make_evidence, make_probabilities

from benchmarks.diagnosis.check import checks
from benchmarks.diagnosis.checks.metadata import RARE, display_text, read_column
from benchmarks.diagnosis.finding import Status

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("benchmarks.diagnosis.checks.metadata.draw", lambda paint: None)


def run(evidence, **fields):
    return checks["metadata"](**fields).run(evidence, make_context(evidence))


def test_a_value_of_one_class_is_found():
    evidence = make_evidence(200, 4)
    sites = np.where((evidence.targets == 2) & (np.arange(200) % 8 < 7), "north", "south")
    result = run(make_evidence(200, 4, metadata={"site": sites, "scanner": np.array(["a", "b"] * 100)[::-1]}))
    assert result.status is Status.failed
    first = result.suspects[0]
    assert "site = north" in first.key
    assert first.classes == (2,)
    assert first.in_data
    assert (evidence.targets[first.members] == 2).all()
    assert 0.9 < first.details["Cramér's V"] <= 1


def test_numbers_are_compared_too():
    evidence = make_evidence(200, 2)
    ages = np.random.default_rng(0).normal(50, 10, 200) + 30 * evidence.targets
    result = run(make_evidence(200, 2, metadata={"age": ages.astype(str)}))
    assert result.suspects[0].key.startswith("age /")
    assert result.suspects[0].details["images"] > 0


def test_errors_of_one_value_are_found():
    rng = np.random.default_rng(0)
    targets = np.arange(300) % 2
    sites = rng.choice(["a", "b", "c"], 300)
    probabilities = make_probabilities(targets, 2, 0.95, rng)
    probabilities[sites == "b"] = make_probabilities(targets[sites == "b"], 2, 0.4, rng)
    result = run(make_evidence(300, 2, probabilities=probabilities, metadata={"site": sites}))
    assert [suspect.key for suspect in result.suspects] == ["site = b / errors"]
    assert result.suspects[0].classes == ()


def test_a_hard_class_makes_no_column_suspicious():
    rng = np.random.default_rng(0)
    targets = np.arange(400) % 2
    probabilities = make_probabilities(targets, 2, 1.0, rng)
    probabilities[targets == 1] = make_probabilities(targets[targets == 1], 2, 0.5, rng)
    evidence = make_evidence(400, probabilities=probabilities, metadata={"copy": np.array(["a", "b"])[targets]})
    assert all(suspect.classes for suspect in run(evidence).suspects)


def test_columns_that_name_images_are_left_out():
    evidence = make_evidence(100, metadata={"file": np.array([f"x{i}.png" for i in range(100)]), "n": np.arange(100)})
    assert run(evidence).reason is not None


def test_rare_values_are_merged_and_persons_hashed():
    column = read_column("patient", np.array(["Ann Lee"] * 6 + ["Bo"] * 2 + ["Cy"] * 3 + [""] * 5))
    assert column is not None
    assert RARE in column.values
    assert not any("Ann" in value for value in column.values)
    assert display_text("site", "1234567").startswith("group ")
    assert display_text("site", "north") == "north"


def test_false_alarms_are_rare():
    def alarm(seed):
        rng = np.random.default_rng(seed)
        metadata = {"site": rng.choice(list("abcd"), 80), "age": rng.normal(size=80), "sex": rng.choice(["f", "m"], 80)}
        return run(make_evidence(80, 2 + seed % 3, seed, metadata=metadata), permutations=39).status is Status.failed

    share = np.mean([alarm(seed) for seed in range(40)])
    print(f"share with an alarm: {share:.3f}")
    assert share <= 0.10

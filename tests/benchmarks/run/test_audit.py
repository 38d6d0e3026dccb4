from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from helpers.cases import square_case

from benchmarks.metrics import Batch, Metric, Score, metrics
from benchmarks.run.audit import Sample, audit, largest_difference

CHOSEN = ("auc", "pixel_flipping", "single_deletion")


class Wrong(Metric):
    """Its engines are one apart on the second of two scores."""

    name: ClassVar[str] = "wrong"
    scores: ClassVar[tuple[Score, ...]] = (Score("a", "A", "none", 0, 1), Score("b", "B", "none", 0, 1))

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"a": np.zeros(len(batch.maps)), "b": np.zeros(len(batch.maps))}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"a": np.zeros(len(batch.maps)), "b": np.ones(len(batch.maps))}


class Failing(Wrong):
    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        raise ValueError("no\nsuch thing")


def samples() -> list[Sample]:
    case = square_case(4)
    return [Sample("net", "exact", case), Sample("net", "turned", replace(case, maps=-case.maps))]


def test_engines_are_close_and_what_quantus_has_not_is_said() -> None:
    lines = audit({name: metrics[name]() for name in CHOSEN}, samples(), seed=0)
    assert [line.metric for line in lines] == list(CHOSEN)
    assert all(line.images == 2 and line.model == "net" for line in lines)
    assert all(line.largest < 1e-4 for line in lines[:2])
    assert lines[2].largest is None
    assert "no such metric" in lines[2].what


def test_a_difference_is_found_and_named() -> None:
    (line,) = audit({"wrong": Wrong()}, samples(), seed=0)
    assert (line.largest, line.score) == (1.0, "b")


def test_a_failure_is_reported_in_one_line() -> None:
    (line,) = audit({"failing": Failing()}, samples(), seed=0)
    assert line.largest is None
    assert line.what == "ValueError: no such thing"


def test_the_seed_decides_what_is_drawn() -> None:
    drawn = {audit({"wrong": Wrong()}, samples(), seed=seed)[0].explainer for seed in range(12)}
    assert drawn == {"exact", "turned"}


def test_no_samples_no_lines() -> None:
    assert audit({"wrong": Wrong()}, [], seed=0) == []


@pytest.mark.parametrize(
    ("a", "b", "apart"), [([1, 2], [1, 4], 2), ([1, np.nan], [2, np.nan], 1), ([1, np.nan], [1, 1], np.inf)]
)
def test_distance(a: list[float], b: list[float], apart: float) -> None:
    assert largest_difference(np.array(a, float), np.array(b, float)) == apart
    assert largest_difference(np.array([np.nan]), np.array([np.nan])) == 0

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies.planted.causes import Planted
from benchmarks.studies.planted.judge import Named, precision_of, score
from interp_core.datasets import ImageSet


def planted(cues: list[int], labels: list[int], truth: list[int] | None = None) -> Planted:
    n = len(cues)
    images = ImageSet(
        np.zeros((n, 3, 4, 4), np.uint8), np.array(labels), np.zeros((n, 1, 4, 4), bool), [str(i) for i in range(n)]
    )
    return Planted(images, np.array(cues), np.zeros((n, 1, 4, 4), bool), np.array(truth or labels))


def test_rank_of_the_first_right_finding_decides_recall() -> None:
    wrong, right = Named(overlap=0.1), Named(overlap=0.6, is_cause=True)
    scores = score([wrong, right, Named(is_cause=True)])
    assert [scores[f"recall_{rank}"] for rank in (1, 3, 5)] == [0.0, 1.0, 1.0]
    assert scores["overlap"] == 0.6
    assert (scores["confirmed"], scores["confirmed_right"]) == (2, 1)
    assert np.isnan(score([])["overlap"])


def test_a_region_around_the_cue_is_no_false_alarm_but_names_nothing() -> None:
    frame = Named(overlap=0.05, cover=0.9, is_cause=True)
    scores = score([frame])
    assert scores["recall_5"] == 0.0
    assert scores["confirmed_right"] == 1


def test_images_with_the_cue_prove_nothing_where_it_is_common() -> None:
    rare = planted([0] * 10 + [-1] * 10, [0] * 20)
    common = planted([0] * 10 + [-1] * 2, [0] * 12)
    first = [str(i) for i in range(10)]
    assert precision_of(first, rare) == 1.0
    assert precision_of(first, common) == 0.0


def test_conflicts_and_flipped_labels_are_rare() -> None:
    conflicts = planted([1] * 5 + [0] * 15, [0] * 20)
    assert precision_of([str(i) for i in range(5)], conflicts) == 1.0
    flipped = planted([-1] * 20, [1] * 10 + [0] * 10, [0] * 20)
    assert precision_of([str(i) for i in range(10)], flipped, only_labels=True) == 1.0
    assert precision_of([str(i) for i in range(10, 20)], flipped, only_labels=True) == 0.0


def test_few_images_are_no_group() -> None:
    assert precision_of(["0", "1"], planted([1] * 4, [0] * 4)) == 0.0


@pytest.mark.parametrize(
    ("options", "expected"), [({"is_property": True}, True), ({"precision": 0.8}, True), ({}, False)]
)
def test_properties_and_groups_name_a_cause(options: dict[str, float], expected: bool) -> None:
    assert Named(**options).is_right is expected  # type: ignore[arg-type]

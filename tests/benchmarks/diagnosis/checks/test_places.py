from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cue_nets import cue_images, follower

from benchmarks.diagnosis.check import Context, Suspect
from benchmarks.diagnosis.checks.places import (
    Places,
    asymmetry,
    contrast_z,
    evidence_shares,
    place_name,
    regions_of,
)
from benchmarks.diagnosis.evidence import GRID, Evidence, collect_evidence
from benchmarks.diagnosis.region import FixedRegion

pytestmark = pytest.mark.slow


def test_a_cue_in_a_corner_is_a_place(tmp_path: Path) -> None:
    subject, (images, cues) = follower(), cue_images(80, place=(0, 0), share=0.7)
    evidence = collect_evidence(subject, images, tmp_path)
    result = Places().run(evidence, Context(subject, images))
    first = next(suspect for suspect in result.suspects if not suspect.is_legitimate)
    assert first.classes == (1,)
    assert isinstance(first.region, FixedRegion)
    assert place_name(first.region.mask) == "the top left"
    mask = first.region.masks(subject, images.images[:1]).numpy()
    cue = cues[cues.any((1, 2, 3))][:1]
    assert (mask & cue).sum() / (mask | cue).sum() > 0.3


def random_evidence(evidence: Evidence, seed: int) -> Evidence:
    generator = np.random.default_rng(seed)
    maps = generator.gamma(0.5, size=(len(evidence), GRID, GRID))
    return replace(evidence, maps=maps, probabilities=np.eye(2)[generator.integers(0, 2, len(evidence))])


def test_maps_without_a_place_are_rarely_suspected(tmp_path: Path) -> None:
    subject, (images, _) = follower(), cue_images(40)
    evidence = collect_evidence(subject, images, tmp_path)

    def suspects_of(noise: Evidence, seed: int) -> tuple[Suspect, ...]:
        return Places(permutations=99).run(noise, Context(subject, images, seed)).suspects

    alarms = [
        any(not suspect.is_screening for suspect in suspects_of(random_evidence(evidence, seed), seed))
        for seed in range(30)
    ]
    assert np.mean(alarms) <= 0.2  # each of two tests has a level of .05


def test_evidence_on_the_border_of_a_class_is_a_place(tmp_path: Path) -> None:
    subject, (images, _) = follower(), cue_images(60)
    evidence = random_evidence(collect_evidence(subject, images, tmp_path), 0)
    maps = evidence.maps.copy()
    rows = np.flatnonzero(evidence.answers == 0)
    maps[rows, :2] += 3.0
    maps[rows, -2:] += 3.0
    result = Places().run(replace(evidence, maps=maps), Context(subject, images))
    names = {suspect.key for suspect in result.suspects if suspect.classes == (0,)}
    assert any("border" in name for name in names)


def test_shares_sum_to_one_or_are_zero() -> None:
    shares = evidence_shares(np.stack([np.arange(4.0).reshape(2, 2) - 1, -np.ones((2, 2))]))
    np.testing.assert_allclose(shares.sum((1, 2)), [1.0, 0.0])


def test_symmetric_maps_have_no_asymmetry() -> None:
    maps = np.random.default_rng(0).random((20, 4, 4))
    symmetric = maps + maps[:, ::-1] + maps[:, :, ::-1] + maps[:, ::-1, ::-1]
    np.testing.assert_allclose(asymmetry(symmetric), 0.0, atol=1e-6)


def test_contrast_is_in_standard_errors() -> None:
    values = np.array([0.0, 2.0, 4.0, 6.0])
    is_member = np.array([False, False, True, True])
    assert contrast_z(values, is_member) == pytest.approx(4 / np.sqrt(1 / 2 + 1 / 2))
    assert contrast_z(values, np.zeros(4, bool)) == 0.0


def test_connected_parts_come_with_the_highest_z_first() -> None:
    cells = np.zeros((6, 6), bool)
    cells[0, :2] = cells[4:, 4:] = True
    first, second = regions_of(cells, np.arange(36.0).reshape(6, 6))
    assert first.sum() == 4
    assert first[5, 5]
    assert second.sum() == 2
    assert regions_of(np.zeros((6, 6), bool), np.zeros((6, 6))) == []

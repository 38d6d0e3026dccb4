from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cue_nets import cue_images, follower, twin

from benchmarks.diagnosis.check import Context
from benchmarks.diagnosis.checks.patches import Patches, label_lift, lift_z, share_on
from benchmarks.diagnosis.evidence import collect_evidence
from benchmarks.diagnosis.finding import Status
from interp_core.datasets import ImageSet

pytestmark = pytest.mark.slow


def test_a_recurring_cue_is_the_first_suspect(tmp_path: Path) -> None:
    subject, (images, cues) = follower(), cue_images(120, share=0.4)
    evidence = collect_evidence(subject, images, tmp_path)
    result = Patches().run(evidence, Context(subject, images))
    assert result.status is Status.failed
    beside = [suspect for suspect in result.suspects if not suspect.is_legitimate]
    assert beside[0].classes == (1,)
    assert beside[0].region is not None
    has_cue = cues.any((1, 2, 3))
    masks = beside[0].region.masks(subject, images.images[has_cue]).numpy()
    overlap = (masks & cues[has_cue]).sum((1, 2, 3)) / (masks | cues[has_cue]).sum((1, 2, 3))
    assert overlap.mean() > 0.5
    assert has_cue[beside[0].members].mean() > 0.9


@pytest.mark.parametrize("masked", [True, False])
def test_the_object_is_a_suspect_only_where_no_mask_tells(masked: bool, tmp_path: Path) -> None:
    subject, (images, _) = twin(), cue_images(120, share=0.0)
    if not masked:
        images = ImageSet(images.images, images.targets, np.zeros_like(images.masks), images.ids)
    evidence = collect_evidence(subject, images, tmp_path)
    suspects = Patches().run(evidence, Context(subject, images)).suspects
    assert bool([suspect for suspect in suspects if not suspect.is_legitimate]) is not masked


def test_independent_labels_rarely_fail(tmp_path: Path) -> None:
    subject, (images, _) = follower(), cue_images(80, share=0.4)
    evidence = collect_evidence(subject, images, tmp_path)
    failures = 0
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(evidence.targets)
        changed = type(evidence)(**{**vars(evidence), "targets": shuffled})
        check = Patches(permutations=99, clusters=4)
        failures += check.run(changed, Context(subject, images, seed)).status is Status.failed
    assert failures <= 3


def test_the_lift_of_a_label() -> None:
    present = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    is_label = np.array([[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]], bool)
    np.testing.assert_allclose(label_lift(present, is_label), [1.0, 0.0, 0.0])
    z = lift_z(present, is_label)
    assert z[0] == pytest.approx(0.5 / np.sqrt(0.25 * (2 / 3) / 2))  # hypergeometric deviation of the share
    np.testing.assert_allclose(z[1:], 0.0)


def test_labels_that_all_images_have_are_not_lifted() -> None:
    everywhere = np.ones((5, 1), bool)
    assert label_lift(everywhere, everywhere)[0] == 0.0
    assert lift_z(everywhere, everywhere)[0] == 0.0


def test_evidence_on_a_mask_is_compared_with_other_maps() -> None:
    maps = np.zeros((2, 4, 4))
    maps[0, 0, 0] = maps[1, 3, 3] = 1.0
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    masks[0, 0, :2, :2] = masks[1, 0, 6:, 6:] = True
    share, null = share_on(maps, masks, np.random.default_rng(0))
    np.testing.assert_allclose(share, 1.0)
    np.testing.assert_allclose(null, 0.0)

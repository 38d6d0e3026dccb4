"""Judge findings against the cause that was planted.

A finding names the cause if its region overlaps the cue of its class, its property is one of the cause's, or eight of
its first ten images carry what is rare: the cue, where at most half of the images of its class do, a cue of another
class, or a flipped label.

A confirmed finding is no false alarm if its region lies on the cue of any class: a network may take the texture of a 6
for a 4, which is as real a cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.diagnosis.finding import Finding, Verdict
from benchmarks.diagnosis.region import load_region
from benchmarks.diagnosis.subject import Subject
from benchmarks.studies.planted.causes import PROPERTIES, Planted
from benchmarks.studies.planted.setting import Setting

OVERLAP = 0.25  # intersection over union from which a region names the cue
FIRST, PRECISION = 10, 0.8  # images of a group, and the share of them that must be right
COVER = 0.5  # share of the cue inside a region from which it is no false alarm
COMMON = 0.6  # share of the class above which a group of images with the cue proves nothing
RANKS = (1, 3, 5)


@dataclass(frozen=True)
class Named:
    """One finding of any method.

    Attributes:
        overlap: mean intersection over union of its region and the cues of its class; NaN without either.
        cover: mean share of the cues of any class inside its region, on its own images; 1 where it overlaps them as a
            region that names them does. NaN without either.
        is_property: whether its property is one of the cause's.
        precision: share of its first images that carry what is rare.
        is_cause: whether the method confirmed it.
    """

    overlap: float = float("nan")
    cover: float = float("nan")
    is_property: bool = False
    precision: float = 0.0
    is_cause: bool = False

    @property
    def is_right(self) -> bool:
        """Whether it names the planted cause."""
        return bool(self.overlap >= OVERLAP) or self.is_property or self.precision >= PRECISION

    @property
    def is_true(self) -> bool:
        """Whether it is no false alarm: it names the cause, or its region holds most of the cue and more."""
        return self.is_right or bool(self.cover >= COVER)


def judge_finding(finding: Finding, folder: Path, subject: Subject, planted: Planted, setting: Setting) -> Named:
    """Judge a finding of a diagnosis in `folder`."""
    overlap = cover = float("nan")
    if finding.region is not None and planted.masks.any():
        classes = [subject.classes.index(name) for name in finding.classes]
        overlap, _ = compare_with_cue(finding, folder, subject, planted, np.isin(planted.cues, classes))
        position = {name: i for i, name in enumerate(planted.images.ids)}
        is_member = np.isin(np.arange(len(planted.cues)), [position[name] for name in finding.images])
        shown, held = compare_with_cue(finding, folder, subject, planted, is_member)
        cover = max(held, float(shown >= OVERLAP))
    return Named(
        overlap,
        cover,
        finding.property in PROPERTIES.get(setting.cause, ()) and setting.role != "nothing",
        precision_of(finding.images, planted, finding.check == "labels") if finding.region is None else 0.0,
        finding.verdict is Verdict.cause,
    )


def compare_with_cue(
    finding: Finding, folder: Path, subject: Subject, planted: Planted, chosen: np.ndarray
) -> tuple[float, float]:
    """Compare a region with the cues of chosen images (N,) bool, those without a cue aside.

    Returns:
        Mean intersection over union, and mean share of the cue inside the region; 0 where no chosen image has a cue.
    """
    rows = np.flatnonzero(chosen & planted.masks.any((1, 2, 3)))[:100]
    if not len(rows):
        return 0.0, 0.0
    masks = load_region(folder, finding.key).masks(subject, planted.images.images[rows]).numpy()
    cues = planted.masks[rows]
    inside, union = ((both).sum((1, 2, 3)) for both in (masks & cues, masks | cues))
    return float((inside / np.maximum(union, 1)).mean()), float((inside / cues.sum((1, 2, 3))).mean())


def precision_of(ids: Sequence[str], planted: Planted, only_labels: bool = False) -> float:
    """Return the share of the first images that carry what is rare; 0 for fewer than half as many images."""
    position = {name: i for i, name in enumerate(planted.images.ids)}
    rows = np.array([position[name] for name in ids[:FIRST] if name in position], int)
    if len(rows) < FIRST // 2:
        return 0.0
    flipped = planted.truth != planted.images.targets
    shares = [planted.conflicts[rows].mean(), flipped[rows].mean()] if not only_labels else [flipped[rows].mean()]
    has_cue = planted.cues >= 0
    same_class = np.isin(planted.images.targets, planted.images.targets[rows])
    if not only_labels and has_cue[same_class].mean() <= COMMON:
        shares.append(has_cue[rows].mean())
    return float(max(shares))


def score(findings: Sequence[Named]) -> dict[str, float]:
    """Score ranked findings of one network.

    Returns:
        recall at 1, 3 and 5, the overlap of the first right region, and numbers of confirmed and falsely confirmed
        findings.
    """
    right = [number for number, finding in enumerate(findings) if finding.is_right]
    overlaps = [finding.overlap for finding in findings if finding.overlap >= OVERLAP]
    confirmed = [finding for finding in findings if finding.is_cause]
    return {
        **{f"recall_{rank}": float(any(number < rank for number in right)) for rank in RANKS},
        "overlap": overlaps[0] if overlaps else float("nan"),
        "findings": len(findings),
        "confirmed": len(confirmed),
        "confirmed_right": sum(finding.is_true for finding in confirmed),
    }

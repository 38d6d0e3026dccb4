"""Dependence of two networks on a suspected cause: answers under intervention, and evidence on it.

Both networks get the same images, the same changes of them, and the masks of the detector in the network before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.diagnosis.edits import edit_of
from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.intervention import LEAST, Outcome, add, remove, shift, swap, widen
from benchmarks.diagnosis.region import FixedRegion, Region, load_region
from benchmarks.diagnosis.repairs.support.cue_exchange import CueExchange, plan_exchange
from benchmarks.diagnosis.repairs.support.cues import Cues, collect_donors, find_cues, groups_of
from benchmarks.diagnosis.repairs.support.edited_images import EditedImages
from benchmarks.diagnosis.repairs.support.image_parts import slices
from benchmarks.diagnosis.subject import Subject
from benchmarks.diagnosis.verifying.before_after import compare_dependence, compare_means, compare_shares
from benchmarks.diagnosis.verifying.verification import Row
from benchmarks.statistics.intervals import Resampling
from interp_core.datasets import Images

IMAGES = 200  # of each intervention
BATCH = 32
Pair = tuple[Outcome, Outcome]


@dataclass(frozen=True)
class Answers:
    """Answers of both networks to N images.

    Attributes:
        rows: (N,) indices in the data set.
        labels: (N,) int64, or (N, K) of 0 and 1.
        before: probabilities (N, K).
        after: (N, K).
    """

    rows: np.ndarray
    labels: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def columns(self) -> np.ndarray:
        """Labels (N, K) bool."""
        count = self.before.shape[1]
        return self.labels > 0 if self.labels.ndim == 2 else np.arange(count) == self.labels[:, None]

    def correct(self, probabilities: np.ndarray) -> np.ndarray:
        """Return how far answers (N, K) are correct, (N,): 0 or 1, or the share of classes in multi-label data."""
        if self.labels.ndim == 1:
            return (probabilities.argmax(1) == self.labels).astype(np.float64)
        return ((probabilities > 0.5) == self.columns).mean(1)


@dataclass(frozen=True)
class Dependence:
    """Interventions on both networks, and their maps.

    Attributes:
        before: the network that was diagnosed.
        after: the repaired network.
        images: held-out images.
        answers: of both networks to them.
        resampling: of the intervals.
        seed: of the choice of images.
    """

    before: Subject
    after: Subject
    images: Images
    answers: Answers
    resampling: Resampling
    seed: int

    def of_finding(self, finding: Finding, folder: Path) -> list[Row]:
        """Compare the dependence on one finding."""
        if finding.region is not None:
            rows = self._of_region(finding, load_region(folder, finding.region))
        else:
            rows = self._of_property(finding)
        return [row.model_copy(update={"finding": finding.key}) for row in rows]

    def _of_region(self, finding: Finding, region: Region) -> list[Row]:
        cues = find_cues(self.before, region, self.images)
        has_cue = cues.present[self.answers.rows]
        if has_cue.sum() < LEAST:
            return []
        rows: list[Row] = []
        for cls in self._class_to_follow(finding):
            is_cls = self.answers.before.argmax(1) == cls
            holders, receivers = self._sample(is_cls & has_cue), self._sample(~is_cls)
            if len(holders) >= LEAST:
                rows += self._compare_outcomes(self._intervene(region, cls, holders, receivers), cls)
                rows.append(self._compare_maps(region, cls, holders))
        return [*rows, *self._compare_exchanged(cues)]

    def _class_to_follow(self, finding: Finding) -> list[int]:
        """Return the classes whose answers a finding drives."""
        return [self.before.classes.index(name) for name in finding.classes or self.before.classes]

    def _sample(self, chosen: np.ndarray) -> np.ndarray:
        rows = self.answers.rows[chosen]
        return np.sort(np.random.default_rng(self.seed).permutation(rows)[:IMAGES])

    def _read(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.images.take(rows).images).float() / 255

    def _on_both(self, intervene: Callable[[Subject], Outcome]) -> Pair:
        return intervene(self.before), intervene(self.after)

    def _intervene(self, region: Region, cls: int, holders: np.ndarray, receivers: np.ndarray) -> list[Pair]:
        """Remove the region from holders, and add it to receivers or swap it with theirs."""
        donors, others = self._read(holders), self._read(receivers)
        masks = widen(region.masks(self.before, donors))
        pairs = [self._on_both(lambda subject: remove(subject, donors, masks, cls))]
        if isinstance(region, FixedRegion):
            if len(others) >= LEAST:
                pairs.append(self._on_both(lambda subject: swap(subject, others, donors, masks[:1], cls)))
            return pairs
        free = others[~region.masks(self.before, others).flatten(1).any(1)] if len(others) else others
        if len(free) >= LEAST:
            pairs.append(self._on_both(lambda subject: add(subject, free, donors, masks, cls)))
        return pairs

    def _of_property(self, finding: Finding) -> list[Row]:
        """Shift a property by as much as the diagnosis saw the classes differ."""
        edit = None if finding.property is None else edit_of(finding.property)
        inside, outside = (finding.details.get(name) for name in ("median", "median of others"))
        if edit is None or inside is None or outside is None:
            return []
        amount, cls = float(inside) - float(outside), self._class_to_follow(finding)[0]
        others = self._read(self._sample(self.answers.before.argmax(1) != cls))
        if len(others) < LEAST:
            return []
        return self._compare_outcomes([self._on_both(lambda subject: shift(subject, others, edit, amount, cls))], cls)

    def _compare_outcomes(self, pairs: Sequence[Pair], cls: int) -> list[Row]:
        """Compare the changes of the probability and of the answer, each beyond those of the control."""
        rows = []
        for pair in pairs:
            name = f"{pair[0].action}: {self.before.classes[cls]}"
            changes = [outcome.difference for outcome in pair]
            controls = [(outcome.control - outcome.before)[:, cls] for outcome in pair]
            rows.append(self._row(f"{name}, probability", changes, controls))
            controls = [_flips(outcome, outcome.control) for outcome in pair]
            flips = [_flips(outcome, outcome.after) for outcome in pair]
            beyond = [flip - control for flip, control in zip(flips, controls, strict=True)]
            rows.append(self._row(f"{name}, flipped answers", beyond, controls))
        return rows

    def _row(self, name: str, values: Sequence[np.ndarray], controls: Sequence[np.ndarray]) -> Row:
        row = compare_dependence(name, values[0], values[1], self.resampling)
        first, second = (float(control.mean()) for control in controls)
        return row.model_copy(update={"control_before": first, "control_after": second})

    def _compare_maps(self, region: Region, cls: int, holders: np.ndarray) -> Row:
        """Compare the share of the evidence for a class that lies on the cue."""
        shares: list[list[np.ndarray]] = [[], []]
        areas = []
        for rows in np.array_split(holders, -(-len(holders) // BATCH)):
            pixels = self._read(rows)
            masks = region.masks(self.before, pixels)
            areas.append(masks.double().mean((1, 2, 3)).numpy())
            for values, subject in zip(shares, (self.before, self.after), strict=True):
                values.append(share_on(subject, pixels, masks, cls))
        first, second = (np.concatenate(values) for values in shares)
        name = f"share of the evidence for {self.before.classes[cls]}"
        return compare_shares(name, first, second, np.concatenate(areas), self.resampling)

    def _compare_exchanged(self, cues: Cues) -> list[Row]:
        """Compare the accuracy on images whose cues are exchanged at random."""
        groups = groups_of(self.images.targets, self.answers.before.shape[1] - 1)
        if groups.min() < 0:
            return []
        donors = collect_donors(self.images, cues, groups, self.seed)
        edit = CueExchange(cues, groups, donors, plan_exchange(groups, cues.present, share=1.0))
        source = EditedImages(self.before, self.images, edit, seed=self.seed, fresh=False)
        batches = [torch.from_numpy(self.answers.rows[part]) for part in slices(len(self.answers.rows))]
        probabilities: list[list[np.ndarray]] = [[], []]
        for _, pixels in source.edited(batches):
            for values, subject in zip(probabilities, (self.before, self.after), strict=True):
                values.append(subject.predict(pixels).numpy())
        first, second = (self.answers.correct(np.concatenate(values)) for values in probabilities)
        return [compare_means("accuracy with exchanged cues", "exchanged", first, second, self.resampling)]


def _flips(outcome: Outcome, probabilities: np.ndarray) -> np.ndarray:
    """Return 1.0 where an answer changes to or from the followed class, (n,)."""
    was, now = outcome.before.argmax(1) == outcome.cls, probabilities.argmax(1) == outcome.cls
    return (was != now).astype(np.float64)


def share_on(subject: Subject, pixels: Tensor, masks: Tensor, cls: int) -> np.ndarray:
    """Compute the share (n,) of the positive evidence for a class inside masks; NaN where there is no evidence.

    Args:
        subject: the network.
        pixels: (n, 3, H, W) in [0, 1].
        masks: (n, 1, H, W) bool.
        cls: the class.
    """
    positive = subject.look(pixels, targets=torch.full((len(pixels),), cls)).maps.clamp(min=0).double().cpu()
    total = positive.sum((1, 2, 3))
    share = (positive * masks).sum((1, 2, 3)) / total
    return torch.where(total > 0, share, torch.nan).numpy()

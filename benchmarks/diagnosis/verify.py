"""Verify: judge a repair on held-out images, with intervals.

    verification = verify(before, after, images, [finding], folder)

Both networks see the same images, the same changes of them and the same masks, which come from the detector in the
network before. A repair succeeds only if the answers under intervention and the evidence on the cause both came closer
to independence, and neither accuracy, nor AUROC, nor any class or group fell beyond its interval.

Known limits: accuracy on images whose cue goes with the label may fall because the network is right for better reasons.
Give images, or groups, in which it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.diagnosis.finding import Diagnosis, Finding, Verdict
from benchmarks.diagnosis.repairs.support.image_parts import slices
from benchmarks.diagnosis.subject import Subject
from benchmarks.diagnosis.verifying.before_after import compare_auroc, compare_means, compare_parts
from benchmarks.diagnosis.verifying.dependence import Answers, Dependence
from benchmarks.diagnosis.verifying.verification import Row, Verification, conclude, judge_finding
from benchmarks.statistics.intervals import Resampling
from benchmarks.store.provenance import provenance
from interp_core.datasets import Images
from interp_core.errors import ContractError

Report = Callable[[str, int, int], None]


def verify(
    before: Subject,
    after: Subject,
    images: Images,
    findings: Sequence[Finding],
    folder: Path,
    *,
    groups: np.ndarray | None = None,
    diagnose: Callable[[Subject], Diagnosis] | None = None,
    resampling: Resampling | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> Verification:
    """Compare a network before and after a repair on held-out images.

    Args:
        before: the network that was diagnosed.
        after: the repaired network, with the same classes.
        images: labelled images that neither diagnosis nor repair has seen.
        findings: what was repaired.
        folder: of the diagnosis, with the regions.
        groups: (N,) names of groups, such as label and cue, where they are known.
        diagnose: runs the checks on the network after; None to leave them out.
        resampling: of the intervals.
        seed: of the choice of images and of the bootstrap.
        report: called with what is done, the number done, and the number of all.

    Raises:
        ContractError: the classes differ, no image can be read, or an image has no label.
    """
    if before.classes != after.classes:
        raise ContractError(f"the networks tell different classes apart: {before.classes} and {after.classes}")
    resampling = resampling or Resampling(seed=seed)
    answers = collect_answers(before, after, images, report)
    rows = [*compare_accuracy(answers, before.classes, resampling)]
    if groups is not None:
        rows += _compare_groups(answers, np.asarray(groups), resampling)
    comparison = Dependence(before, after, images, answers, resampling, seed)
    for number, finding in enumerate(findings):
        if report is not None:
            report(f"intervening on {finding.key}", number, len(findings))
        rows += comparison.of_finding(finding, folder)
    results = tuple(judge_finding(finding, rows) for finding in findings)
    diagnosis = None if diagnose is None else diagnose(after)
    causes = () if diagnosis is None else [f.key for f in diagnosis.findings if f.verdict is Verdict.cause]
    return Verification(
        data={"images": len(answers.rows)},
        rows=tuple(rows),
        findings=results,
        checks=() if diagnosis is None else diagnosis.checks,
        still_present=tuple(finding.key for finding in findings if finding.key in causes),
        provenance=provenance(seed=seed),
        **conclude(results, rows),
    )


def collect_answers(before: Subject, after: Subject, images: Images, report: Report | None = None) -> Answers:
    """Run both networks on all images that can be read and have a label.

    Raises:
        ContractError: there is no such image.
    """
    parts = []
    for rows, batch in images.batches(slices(len(images))):
        has_label = batch.targets >= 0 if batch.targets.ndim == 1 else (batch.targets >= 0).all(1)
        if has_label.any():
            pixels = batch.images[has_label]
            probabilities = [subject.predict(pixels).numpy() for subject in (before, after)]
            parts.append((rows[has_label], batch.targets[has_label], *probabilities))
        if report is not None:
            report("images answered", int(rows[-1]) + 1 if len(rows) else 0, len(images))
    if not parts:
        raise ContractError(f"none of the {len(images)} images can be read and has a label")
    return Answers(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def compare_accuracy(answers: Answers, classes: Sequence[str], resampling: Resampling) -> list[Row]:
    """Compare accuracy, AUROC, each class and the worst class."""
    first, second = answers.correct(answers.before), answers.correct(answers.after)
    rows = [compare_means("accuracy", "accuracy", first, second, resampling)]
    area = compare_auroc(answers.before, answers.after, answers.columns, resampling)
    rows += [] if area is None else [area]
    parts = dict(zip(classes, answers.columns.T, strict=True))
    return rows + compare_parts("class", first, second, parts, resampling)


def _compare_groups(answers: Answers, groups: np.ndarray, resampling: Resampling) -> list[Row]:
    if len(groups) <= answers.rows.max():
        raise ContractError(f"{len(groups)} groups are given for images up to number {answers.rows.max()}")
    mine = groups[answers.rows]
    parts = {str(name): mine == name for name in np.unique(mine)}
    return compare_parts("group", answers.correct(answers.before), answers.correct(answers.after), parts, resampling)

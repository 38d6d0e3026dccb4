"""Paired comparisons of two networks on the same images, each with a bootstrap interval over images.

Means are compared image by image. The area under the ROC curve and the worst of several accuracies are computed anew in
each resample, which both networks share (Efron and Tibshirani 1993).

Known limits: the worst of several accuracies is biased downwards in small groups, in both networks alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from benchmarks.diagnosis.intervention import MINIMUM_EFFECT
from benchmarks.diagnosis.verifying.verification import Change, Kind, Row
from benchmarks.statistics.intervals import Resampling, bootstrap_ci, draws

MEMORY = 4_000_000  # values that are ranked at once


def compare_means(
    name: str, kind: Kind, before: np.ndarray, after: np.ndarray, resampling: Resampling, *, lower: bool = False
) -> Row:
    """Compare means of paired values (n,); pairs with NaN are left out.

    Args:
        name: what is measured.
        kind: see `Row`.
        before: (n,).
        after: (n,).
        resampling: of the interval.
        lower: whether lower is better.
    """
    both = np.isfinite(before) & np.isfinite(after)
    first, second = before[both].astype(np.float64), after[both].astype(np.float64)
    if len(first) < 2:
        return Row(name=name, kind=kind, before=None, after=None, difference=None, n=len(first))
    low, high = bootstrap_ci(second - first, resampling)
    return make_row(name, kind, float(first.mean()), float(second.mean()), (low, high), len(first), lower=lower)


def compare_dependence(name: str, before: np.ndarray, after: np.ndarray, resampling: Resampling) -> Row:
    """Compare how far answers depend on a cause, which is 0 for a network that does not use it.

    Args:
        name: what is measured.
        before: (n,) changes by the intervention beyond those by its control.
        after: the same of the network after.
        resampling: of the interval.

    Returns:
        A row that is better if the mean came closer to 0, and worse if it went away from it, beyond the interval. Means
        that are too small for a cause, before and after, count as the same.
    """
    row = compare_means(name, "answers", before, after, resampling, lower=bool(np.nanmean(before) > 0))
    if row.before is None or row.after is None or row.verdict is Change.same:
        return row
    if max(abs(row.before), abs(row.after)) < MINIMUM_EFFECT:
        return row.model_copy(update={"verdict": Change.same})
    if row.verdict is Change.worse:
        return row
    return row if abs(row.after) < abs(row.before) else row.model_copy(update={"verdict": Change.worse})


def compare_shares(name: str, before: np.ndarray, after: np.ndarray, areas: np.ndarray, resampling: Resampling) -> Row:
    """Compare shares of the evidence that lie on a cue.

    Args:
        name: what is measured.
        before: (n,) shares in [0, 1], NaN without any evidence.
        after: the same of the network after.
        areas: (n,) shares of the image that the cue covers, which an even map would have on it.
        resampling: of the interval.

    Returns:
        A row that is better if the share fell, and worse if it rose above that of an even map, beyond the interval.
    """
    row = compare_means(name, "map", before, after, resampling, lower=True)
    excess = (after - areas)[np.isfinite(before) & np.isfinite(after)]
    if row.verdict is Change.worse and not bootstrap_ci(excess, resampling)[0] > 0:
        return row.model_copy(update={"verdict": Change.same})
    return row


def compare_auroc(before: np.ndarray, after: np.ndarray, labels: np.ndarray, resampling: Resampling) -> Row | None:
    """Compare the area under the ROC curve, the mean over classes against all others.

    Args:
        before: (n, K) probabilities.
        after: (n, K).
        labels: (n, K) bool.
        resampling: of the interval.

    Returns:
        None where no class has images inside and outside.
    """
    columns = [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
    if labels.shape[1] == 2 and (labels.sum(1) == 1).all():
        columns = columns[-1:]  # both columns say the same
    if not columns:
        return None
    first, second = (np.mean([auroc(p[None, :, k], labels[None, :, k])[0] for k in columns]) for p in (before, after))
    differences = _resample_auroc(before, after, labels, columns, resampling)
    name = "AUROC" if len(columns) == 1 else "AUROC, mean over classes"
    return make_row(name, "accuracy", float(first), float(second), resampling.interval(differences), len(labels))


def _resample_auroc(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, columns: list[int], resampling: Resampling
) -> np.ndarray:
    """Compute differences (resamples,) of the mean area."""
    generator = np.random.default_rng(resampling.seed)
    size = max(1, MEMORY // len(labels))
    parts = []
    for start in range(0, resampling.resamples, size):
        count = min(size, resampling.resamples - start)
        rows = generator.integers(len(labels), size=(count, len(labels)))
        areas = [
            auroc(after[rows, k], labels[rows, k]) - auroc(before[rows, k], labels[rows, k]) for k in columns
        ]  # fmt: skip
        parts.append(_nanmean(np.stack(areas, 1)))
    return np.concatenate(parts)


def auroc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute areas under the ROC curve (R,) of scores (R, n) for labels (R, n) bool; NaN with one class."""
    positive = labels.sum(1)
    ranks = (rankdata(scores, axis=1) * labels).sum(1)
    pairs = positive * (labels.shape[1] - positive)
    wins = ranks - positive * (positive + 1) / 2
    return np.divide(wins, pairs, out=np.full(len(scores), np.nan), where=pairs > 0)


def compare_parts(
    kind: Kind, before: np.ndarray, after: np.ndarray, parts: Mapping[str, np.ndarray], resampling: Resampling
) -> list[Row]:
    """Compare the accuracy of parts of the images, and that of the worst part.

    The intervals of the parts hold for all of them together (Bonferroni), since the worst of many is looked for.

    Args:
        kind: "class" or "group".
        before: (n,) in [0, 1], how far each answer is correct.
        after: (n,).
        parts: (n,) bool by name.
        resampling: of the intervals.
    """
    present = {name: part for name, part in parts.items() if part.any()}
    together = replace(resampling, level=1 - (1 - resampling.level) / max(1, len(present)))
    rows = [
        compare_means(f"accuracy of {kind} {name}", kind, before[part], after[part], together)
        for name, part in present.items()
    ]
    return rows if len(present) < 2 else [_compare_worst(kind, before, after, present, resampling), *rows]


def _compare_worst(
    kind: Kind, before: np.ndarray, after: np.ndarray, parts: Mapping[str, np.ndarray], resampling: Resampling
) -> Row:
    members = np.stack(list(parts.values()), 1).astype(np.float64)
    counts = draws(1, len(before), resampling.resamples, resampling.seed)[1]

    def worst(correct: np.ndarray, times: np.ndarray) -> np.ndarray:
        sizes = times @ members
        shares = np.divide(
            times @ (members * correct[:, None]), sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0
        )
        return np.fmin.reduce(shares, axis=1)

    everything = np.ones((1, len(before)))
    first, second = (float(worst(correct, everything)[0]) for correct in (before, after))
    interval = resampling.interval(worst(after, counts) - worst(before, counts))
    return make_row(f"accuracy of the worst {kind}", kind, first, second, interval, len(before))


def make_row(
    name: str,
    kind: Kind,
    before: float,
    after: float,
    interval: tuple[float, float],
    n: int,
    *,
    lower: bool = False,
) -> Row:
    """Make a row, with the verdict that the interval of the difference gives."""
    low, high = interval
    sign = -1 if lower else 1
    ends = sorted((sign * low, sign * high))
    verdict = Change.better if ends[0] > 0 else Change.worse if ends[1] < 0 else Change.same
    if not np.isfinite(ends).all():
        return Row(name=name, kind=kind, before=before, after=after, difference=after - before, n=n)
    return Row(
        name=name,
        kind=kind,
        before=before,
        after=after,
        difference=after - before,
        low=low,
        high=high,
        n=n,
        verdict=verdict,
    )


def _nanmean(values: np.ndarray) -> np.ndarray:
    counts = np.isfinite(values).sum(1)
    return np.divide(np.nansum(values, 1), counts, out=np.full(len(values), np.nan), where=counts > 0)

"""Null distributions by permutation, for the statistics that several checks share.

Idea: labels are exchanged among images (of one group, where a group explains part of them), and every statistic is
computed again. Statistics are on one scale of separation, Youden's J: 0 for none, 1 where one class is given away.

    J = max over intervals I of  P(x in I | class) - P(x in I | others)          (Kuiper's statistic, one against rest)

An interval may wrap around, so a class of middling or of extreme values counts too. J does not depend on how frequent
the class is. Its mean under permutation is above 0, so effects are given as (J - J0) / (1 - J0).

Many hypotheses are adjusted together by the step-down maximum of Westfall and Young (1993). It is Holm's method with
the dependence of the hypotheses read from the permutations, and, unlike Holm's, its p values do not have to be divided
by the number of hypotheses, which 199 permutations could not resolve.

Limits: values are cut into `BINS` bins of equal count, which bounds the resolution of J at 1 / BINS.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata

BINS = 64
LEAST = 5  # images of a class, and of the others


def permutations(
    count: int, size: int, rng: np.random.Generator, groups: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield permutations (size,) of indices, within `groups` (size,) where these are given."""
    if groups is None:
        yield from (rng.permutation(size) for _ in range(count))
        return
    order = np.argsort(groups, kind="stable")
    for _ in range(count):
        shuffled = np.empty(size, np.int64)
        shuffled[order] = np.lexsort((rng.random(size), groups))
        yield shuffled


def step_down_p(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Adjust one-sided p values of many statistics by the step-down maximum.

    Statistics are standardised by mean and standard deviation of all permutations, the observed one among them.

    Args:
        values: (m,) observed.
        null: (B, m) under B permutations, the same permutation for all statistics.
    """
    everything = np.concatenate([values[None], null]).astype(np.float64)
    spread = everything.std(0)
    scores = (everything - everything.mean(0)) / np.where(spread > 1e-12, spread, np.inf)
    order = np.argsort(-scores[0])
    maxima = np.maximum.accumulate(scores[1:, order[::-1]], axis=1)[:, ::-1]
    p = (1 + (maxima >= scores[0, order] - 1e-12).sum(0)) / (1 + len(null))
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(p)
    return adjusted


def bin_codes(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Cut values (N,) into bins of equal count, (N,) int64; equal values share a bin, NaN have the last one."""
    finite = values[np.isfinite(values)]
    distinct = np.unique(finite)
    edges = distinct if len(distinct) <= bins else np.unique(np.quantile(finite, np.arange(1, bins) / bins))
    codes = np.searchsorted(edges, values, side="left")
    return np.where(np.isfinite(values), codes, len(edges) + 1)


def count_bins(codes: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count images by bin and class, (bins, classes) float64."""
    bins = int(codes.max()) + 1
    counts = np.bincount(codes * classes + labels, minlength=bins * classes)
    return counts.reshape(bins, classes).astype(np.float64)


def separation(counts: np.ndarray) -> np.ndarray:
    """Compute J (K,) of each class against the others from counts (bins, K)."""
    gap = cumulative_gap(counts)
    return np.maximum(gap.max(0), 0) - np.minimum(gap.min(0), 0)


def cumulative_gap(counts: np.ndarray) -> np.ndarray:
    """Compute the difference (bins, K) of the distribution functions of each class and the others."""
    below = counts.cumsum(0)
    size = below[-1]
    below_all, total = below.sum(1, keepdims=True), size.sum()
    return below / np.maximum(size, 1) - (below_all - below) / np.maximum(total - size, 1)


def separation_null(
    codes: list[np.ndarray],
    labels: np.ndarray,
    classes: int,
    count: int,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Compute J (count, P, K) of P coded columns under permutations of the labels."""
    null = np.empty((count, len(codes), classes), np.float64)
    for number, order in enumerate(permutations(count, len(labels), rng, groups)):
        shuffled = labels[order]
        for column, code in enumerate(codes):
            null[number, column] = separation(count_bins(code, shuffled, classes))
    return null


def above_chance(values: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Compute (J - J0) / (1 - J0), at least 0."""
    return np.clip((values - chance) / np.maximum(1 - chance, 1e-9), 0, 1)


def ranks_within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank values (N,) within groups (N,), centred, in [-0.5, 0.5]; NaN are in the middle."""
    ranks = np.zeros(len(values))
    for group in np.unique(groups):
        members = np.flatnonzero((groups == group) & np.isfinite(values))
        if len(members):
            ranks[members] = (rankdata(values[members]) - 0.5) / len(members) - 0.5
    return ranks


def partial_correlations(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Correlate the ranks within groups of paired columns, and under permutations within groups.

    Args:
        first: (N, S).
        second: (N, S), column s goes with column s of `first`.
        groups: (N,) whose differences are not to count, such as labels.
        count: number of permutations.
        rng: generator of the permutations.

    Returns:
        Correlations (S,) and their null (count, S); 0 where a column does not vary within groups.
    """
    left, right = (
        np.column_stack([ranks_within(column, groups) for column in columns.T]).astype(np.float64)
        for columns in (first, second)
    )
    scale = np.maximum(np.sqrt((left**2).sum(0) * (right**2).sum(0)), 1e-12)
    orders = permutations(count, len(groups), rng, groups)
    null = np.stack([np.einsum("ns,ns->s", left[order], right) / scale for order in orders])
    return np.einsum("ns,ns->s", left, right) / scale, null


def follow_within(
    scores: list[np.ndarray],
    probabilities: np.ndarray,
    labels: np.ndarray,
    count: int,
    rng: np.random.Generator,
    *,
    alpha: float,
    least: float,
) -> list[tuple[bool, str]]:
    """Test whether probabilities follow scores among images of one label.

    Args:
        scores: S arrays (N,).
        probabilities: (N, S), of the class that each score speaks for.
        labels: (N,) class indices.
        count: number of permutations.
        rng: generator of the permutations.
        alpha: level of significance, adjusted over the scores.
        least: smallest rank correlation that counts.

    Returns:
        Whether it does, and the grounds in one sentence, for each score.
    """
    if not scores:
        return []
    values, null = partial_correlations(np.column_stack(scores), probabilities, labels, count, rng)
    p = step_down_p(values, null)
    return [
        (
            bool(p[s] <= alpha and values[s] >= least),
            f"among images of one label, the probability of the class follows it with rank correlation {values[s]:.2f} "
            f"(chance {null[:, s].mean():.2f}, p {p[s]:.3f})",
        )
        for s in range(len(scores))
    ]

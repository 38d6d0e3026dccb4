"""Compute bootstrap intervals over persons, since several images may be of one person.

Persons are drawn with replacement, with all their images (Field and Welsh 2007, "cluster bootstrap"). The statistic is
that of the images drawn, so persons with many images weigh more.

Known limit: percentile intervals of few persons are too short. `effective_persons` says how few they are.
"""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.intervals import LEVEL, RESAMPLES


def draw_weights(persons: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Count how often each image is drawn, (resamples, n), for images of `persons` (n,)."""
    names, index = np.unique(persons, return_inverse=True)
    shares = np.full(len(names), 1 / len(names))
    return np.random.default_rng(seed).multinomial(len(names), shares, resamples)[:, index].astype(np.float64)


def effective_persons(persons: np.ndarray) -> float:
    """Return the effective number of `persons` (n,) for n_i images each: (sum of n_i)^2 / sum of n_i^2."""
    counts = np.unique(persons, return_counts=True)[1].astype(np.float64)
    return float(counts.sum() ** 2 / np.square(counts).sum())


def mean_interval(values: np.ndarray, persons: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values (n,) of images of `persons` (n,)."""
    weights = draw_weights(persons, seed=seed)
    return _quantiles(weights @ values / weights.sum(1))


def wins(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compare every positive with every negative image; the mean of the table is the AUROC.

    Returns:
        (p, q), 1 where positive image p scores above negative image q, 1/2 where they tie, else 0.
    """
    above = scores[targets == 1][:, None] - scores[targets == 0][None]
    return (above > 0) + 0.5 * (above == 0)


def wins_interval(table: np.ndarray, targets: np.ndarray, persons: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean of a table (p, q) of `wins`, a mean of several, or a difference of two.

    Resamples without a positive or without a negative image are left out.
    """
    weights = draw_weights(persons, seed=seed)
    positive, negative = weights[:, targets == 1], weights[:, targets == 0]
    pairs = positive.sum(1) * negative.sum(1)
    is_defined = pairs > 0
    return _quantiles(((positive @ table) * negative).sum(1)[is_defined] / pairs[is_defined])


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)

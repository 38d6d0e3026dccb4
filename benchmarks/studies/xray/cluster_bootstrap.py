"""Bootstrap of persons: intervals where several images are of one person and must be drawn together.

Persons are drawn with replacement, with all their images (Field and Welsh 2007, "cluster bootstrap"); the statistic is
that of the images drawn, so that persons with many images weigh more. Known limit: percentile intervals of few persons
are too short; `effective` says how few.
"""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.intervals import LEVEL, RESAMPLES


def weights(persons: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image is drawn, (resamples, n), for images of `persons` (n,)."""
    names, place = np.unique(persons, return_inverse=True)
    shares = np.full(len(names), 1 / len(names))
    return np.random.default_rng(seed).multinomial(len(names), shares, resamples)[:, place].astype(np.float64)


def effective(persons: np.ndarray) -> float:
    """Persons of equally many images that would weigh as those of `persons` (n,): (sum of n_i)^2 / sum of n_i^2."""
    counts = np.unique(persons, return_counts=True)[1].astype(np.float64)
    return float(counts.sum() ** 2 / np.square(counts).sum())


def mean_interval(values: np.ndarray, persons: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of values (n,) of images of `persons` (n,)."""
    drawn = weights(persons, seed=seed)
    return _quantiles(drawn @ values / drawn.sum(1))


def wins(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(p, q) 1 where positive image p scores above negative image q, 1/2 where they tie; its mean is the AUROC."""
    above = scores[targets == 1][:, None] - scores[targets == 0][None]
    return (above > 0) + 0.5 * (above == 0)


def wins_interval(table: np.ndarray, targets: np.ndarray, persons: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of a table (p, q) of `wins`, of a mean of several, or of a difference of two.

    Resamples without a positive or without a negative image are left out.
    """
    drawn = weights(persons, seed=seed)
    positive, negative = drawn[:, targets == 1], drawn[:, targets == 0]
    pairs = positive.sum(1) * negative.sum(1)
    there = pairs > 0
    return _quantiles(((positive @ table) * negative).sum(1)[there] / pairs[there])


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)

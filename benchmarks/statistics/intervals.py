"""Percentile bootstrap intervals of means, over images or over training seeds and images.

Over images alone: Efron and Tibshirani 1993, by scipy.stats.bootstrap.

Over several training seeds: seeds and images are both drawn. All seeds are scored on the same images, so one draw of
images serves all seeds of a resample (crossed factors; Owen, "The pigeonhole bootstrap", 2007). Drawing images anew
within each seed would average away how hard an image is, and the interval would be too short. Seeds that share no image
draw their own.

Known limits: drawing S seeds from S gives only (S - 1) / S of their variance, so intervals over two or three seeds are
too short. The interval of a single seed covers the choice of images and says nothing about training.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from benchmarks.statistics.scores import means_of_images

LEVEL, RESAMPLES = 0.95, 2000
NO_INTERVAL = (float("nan"), float("nan"))
# Most values that scipy resamples at once.
_MEMORY = 4_000_000
# scipy renamed the argument in 1.15 and will drop the old name.
_RNG = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"


@dataclass(frozen=True)
class Resampling:
    """Settings of a bootstrap.

    Attributes:
        level: coverage of the intervals, in (0, 1).
        resamples: number of bootstrap samples.
        seed: seed of the draws. All rows of a table use it, so explainers judged on the same images are drawn alike.
    """

    level: float = LEVEL
    resamples: int = RESAMPLES
    seed: int = 0

    def interval(self, means: np.ndarray) -> tuple[float, float]:
        """Return the percentile interval of resampled means, without NaN."""
        low, high = np.nanquantile(means, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)


DEFAULT = Resampling()


def bootstrap_ci(values: ArrayLike, resampling: Resampling = DEFAULT) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of a mean.

    Args:
        values: (n,) scores; NaN are dropped.
        resampling: settings of the bootstrap.

    Returns:
        (low, high); both NaN with fewer than two values.
    """
    clean = np.asarray(values, dtype=np.float64).ravel()
    clean = clean[~np.isnan(clean)]
    if len(clean) < 2:
        return NO_INTERVAL
    if np.ptp(clean) == 0:
        return float(clean[0]), float(clean[0])
    options: dict[str, Any] = {
        "confidence_level": resampling.level,
        "n_resamples": resampling.resamples,
        "batch": max(1, _MEMORY // len(clean)),
        _RNG: np.random.default_rng(resampling.seed),
    }
    interval = stats.bootstrap((clean,), np.mean, method="percentile", **options).confidence_interval
    return float(interval.low), float(interval.high)


def hierarchical_ci(
    values: ArrayLike, resampling: Resampling = DEFAULT, *, shared: bool | None = None
) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of a mean over training seeds and images.

    Args:
        values: (seeds, images) scores, NaN where there is none.
        resampling: settings of the bootstrap.
        shared: whether one draw of images serves all seeds of a resample. None: it does if any image has two seeds.

    Returns:
        (low, high). With one seed, `bootstrap_ci` of its images; both NaN with fewer than two images.
    """
    block = np.atleast_2d(np.asarray(values, dtype=np.float64))
    block = block[~np.isnan(block).all(1)]
    block = block[:, ~np.isnan(block).all(0)]
    if len(block) < 2:
        return bootstrap_ci(block, resampling)
    if block.shape[1] < 2:
        return NO_INTERVAL
    if shared is None:
        shared = bool(((~np.isnan(block)).sum(0) > 1).any())
    resample = resample_means if shared else _means_of_separate_images
    return resampling.interval(resample(block, resampling.resamples, resampling.seed))


def resample_means(block: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Compute the means (resamples,) of a block over drawn seeds and images.

    The block is (seeds, images). All seeds of a resample share one draw of images.
    """
    seeds, images = draws(*block.shape, resamples, seed)
    has_value = ~np.isnan(block)
    total = (seeds * (images @ np.where(has_value, block, 0.0).T)).sum(1)
    count = (seeds * (images @ has_value.T.astype(np.float64))).sum(1)
    return np.divide(total, count, out=np.full(resamples, np.nan), where=count > 0)


@lru_cache(maxsize=4)
def draws(seeds: int, images: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw seeds and images with replacement.

    Returns:
        Counts of each seed (resamples, seeds) and of each image (resamples, images).
    """
    rng = np.random.default_rng(seed)
    image_counts = _counts(rng, images, resamples)
    seed_counts = _counts(rng, seeds, resamples)
    return seed_counts, image_counts


def _counts(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    return rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64)


def count_seeds(block: np.ndarray) -> int:
    """Count the seeds of a block (seeds, images) that have a value."""
    return int((~np.isnan(block)).any(1).sum())


def image_mean(block: np.ndarray) -> float:
    """Average the images of a block (seeds, images).

    Each image is averaged over seeds first. NaN for an empty block.
    """
    values = means_of_images(block)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _means_of_separate_images(block: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Compute the means (resamples,) where each seed draws from the images that it has."""
    rng = np.random.default_rng(seed)
    seed_counts = rng.multinomial(len(block), np.full(len(block), 1 / len(block)), resamples)
    total = np.zeros(resamples)
    for times, row in zip(seed_counts.T, block, strict=True):
        scores = row[~np.isnan(row)]
        image_counts = rng.multinomial(times * len(scores), np.full(len(scores), 1 / len(scores)))
        total += image_counts @ scores / len(scores)
    return total / len(block)

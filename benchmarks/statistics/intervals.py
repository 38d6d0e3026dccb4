"""Percentile bootstrap intervals of means, over images alone or over training seeds and images.

Images alone: Efron and Tibshirani 1993, by scipy.stats.bootstrap. With several training seeds, seeds are drawn first
and then images. Seeds are judged on the same images, so that one draw of images serves all seeds of a resample
(crossed factors; Owen, "The pigeonhole bootstrap", 2007): drawing them anew within each seed would average away what
is hard or easy about an image, and the interval would be too short. Where seeds share no image, each draws its own.

Known limits: S seeds drawn from S vary by (S - 1) / S of what they should, so that intervals over two or three seeds
are still too short; one seed says nothing of training at all, and the interval is then that of the images.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from benchmarks.statistics.scores import means_of_images

LEVEL, RESAMPLES = 0.95, 2000
_MEMORY = 4_000_000
# scipy renamed the argument in 1.15 and will drop the old name
_RNG = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"
NOTHING = (float("nan"), float("nan"))


def bootstrap_ci(
    values: ArrayLike, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (n,) scores; NaN are dropped.
        level: coverage, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        (low, high); both NaN with fewer than two values.
    """
    clean = np.asarray(values, dtype=np.float64).ravel()
    clean = clean[~np.isnan(clean)]
    if len(clean) < 2:
        return NOTHING
    if np.ptp(clean) == 0:
        return float(clean[0]), float(clean[0])
    options: dict[str, Any] = {_RNG: np.random.default_rng(seed), "batch": max(1, _MEMORY // len(clean))}
    interval = stats.bootstrap(
        (clean,), np.mean, confidence_level=level, n_resamples=resamples, method="percentile", **options
    ).confidence_interval
    return float(interval.low), float(interval.high)


def hierarchical_ci(
    values: ArrayLike,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    shared: bool | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over training seeds and images.

    Args:
        values: (seeds, images) scores, NaN where there is none.
        level: coverage, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.
        shared: whether one draw of images serves all seeds of a resample; None for: where any image has two seeds.

    Returns:
        (low, high). With one seed exactly `bootstrap_ci` of its images; both NaN with fewer than two images.
    """
    block = np.atleast_2d(np.asarray(values, dtype=np.float64))
    block = block[~np.isnan(block).all(1)]
    block = block[:, ~np.isnan(block).all(0)]
    if len(block) < 2:
        return bootstrap_ci(block, level, resamples, seed)
    if block.shape[1] < 2:
        return NOTHING
    if shared is None:
        shared = bool(((~np.isnan(block)).sum(0) > 1).any())
    means = resampled_means(block, resamples, seed) if shared else _own_images(block, resamples, seed)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_means(block: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means (resamples,) of a block (seeds, images) over drawn seeds and, the same for each, drawn images."""
    seeds, images = draws(*block.shape, resamples, seed)
    there = ~np.isnan(block)
    total = (seeds * (images @ np.where(there, block, 0.0).T)).sum(1)
    count = (seeds * (images @ there.T.astype(np.float64))).sum(1)
    return np.divide(total, count, out=np.full(resamples, np.nan), where=count > 0)


@lru_cache(maxsize=4)
def draws(seeds: int, images: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed (resamples, seeds) and each image (resamples, images) is drawn, with replacement."""
    rng = np.random.default_rng(seed)
    drawn = (rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64) for n in (images, seeds))
    of_images, of_seeds = drawn
    return of_seeds, of_images


def seeds_in(block: np.ndarray) -> int:
    """Seeds of a block (seeds, images) that have a value."""
    return int((~np.isnan(block)).any(1).sum())


def image_mean(block: np.ndarray) -> float:
    """Mean over images of the means over seeds; NaN where there is nothing."""
    values = means_of_images(block)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _own_images(block: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(block), np.full(len(block), 1 / len(block)), resamples)
    total = np.zeros(resamples)
    for times, row in zip(drawn.T, block, strict=True):
        known = row[~np.isnan(row)]
        counts = rng.multinomial(times * len(known), np.full(len(known), 1 / len(known)))
        total += counts @ known / len(known)
    return total / len(block)

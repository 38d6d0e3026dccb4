"""Reliability of metrics: agreement between seeds, between images, and between metrics.

* test-retest: correlation over images between two runs of different seed, the median over methods. The seed covers
  training, explainers and metrics, so this is a lower bound of the metric's own reliability.
* agreement of images: Kendall's W of the orders in which images put the methods, 0 (none) to 1 (all alike). It is the
  inter-rater reliability of Tomsett et al., AAAI 2020.
* split half: Spearman's correlation of the orders from two random halves of the images, the mean over splits.
* agreement of metrics: Spearman's correlation of the orders of the methods by two metrics. Among the pairs are variants
  of one metric that fill removed pixels with the mean or a blur.

Controls are left out throughout. Every metric tells noise from maps, which would pass for agreement.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.statistics.scores import blocks_of, by_name, means_of_images, rankable_names, sign

RELIABILITY_COLUMNS = ("model", "metric", "test_retest", "image_agreement", "split_half", "seeds", "methods", "images")
AGREEMENT_COLUMNS = ("model", "metric", "other", "correlation", "methods", "variants")
FILLS = ("mean", "blur", "noisy_linear", "zero", "black", "uniform")
SPLITS = 100
_FILL = re.compile(rf"(?:^|_)({'|'.join(FILLS)})(?=_|$)")


def reliability(
    scores: pd.DataFrame, metrics: Sequence[Mapping[str, Any]], methods: Collection[str], seed: int = 0
) -> pd.DataFrame:
    """Compute the reliability of each ranked metric on each model.

    Args:
        scores: long table.
        metrics: descriptions.
        methods: explainers that know the network.
        seed: seed of the splits.

    Returns:
        `RELIABILITY_COLUMNS`; NaN where there are too few seeds, methods or images.
    """
    rows = []
    for model, metric, cells in _groups(scores, metrics, methods):
        values = np.stack([means_of_images(block) for block in cells.values()])
        values = values[:, ~np.isnan(values).any(0)]
        seeds = max(int((~np.isnan(block)).any(1).sum()) for block in cells.values())
        numbers = retest(list(cells.values())), concordance(values), split_half(values, seed)
        rows.append((model, metric, *numbers, seeds, *values.shape))
    return pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS))


def agreement(scores: pd.DataFrame, metrics: Sequence[Mapping[str, Any]], methods: Collection[str]) -> pd.DataFrame:
    """Correlate the orders of methods by each pair of ranked metrics of a model.

    Args:
        scores: long table.
        metrics: descriptions.
        methods: explainers that know the network.

    Returns:
        `AGREEMENT_COLUMNS`. `variants` names the fills ("mean / blur") if the pair is one metric with two fills, else
        it is empty.
    """
    descriptions = by_name(metrics)
    by_model: dict[str, dict[str, dict[str, float]]] = {}
    for model, metric, cells in _groups(scores, metrics, methods):
        direction = sign(descriptions[metric])
        means = {name: direction * float(np.nanmean(means_of_images(block))) for name, block in cells.items()}
        by_model.setdefault(model, {})[metric] = means
    rows = []
    for model, tables in by_model.items():
        for first, second in combinations(tables, 2):
            shared = sorted(set(tables[first]) & set(tables[second]))
            columns = [[tables[name][method] for method in shared] for name in (first, second)]
            rows.append((model, first, second, spearman(*columns), len(shared), fillings(first, second)))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def retest(cells: Sequence[np.ndarray]) -> float:
    """Correlate the seeds of each method, and return the median.

    Each method's block is (seeds, images); its correlations are averaged first. NaN with one seed.
    """
    by_method = []
    for block in cells:
        pairs = [spearman(first, second) for first, second in combinations(block, 2)]
        correlations = [value for value in pairs if not np.isnan(value)]
        by_method += [float(np.mean(correlations))] if correlations else []
    return float(np.median(by_method)) if by_method else float("nan")


def concordance(values: np.ndarray) -> float:
    """Compute Kendall's W of images as judges of methods, corrected for ties.

    W = chi^2 / (images (methods - 1)), with Friedman's chi^2.

    Args:
        values: (methods, images).

    Returns:
        0 to 1; NaN with fewer than 3 methods or 2 images.
    """
    k, images = values.shape
    if k < 3 or images < 2 or (np.ptp(values, axis=0) == 0).all():
        return float("nan")
    return float(stats.friedmanchisquare(*values).statistic / (images * (k - 1)))


def split_half(values: np.ndarray, seed: int = 0, splits: int = SPLITS) -> float:
    """Correlate the orders of methods from random halves of the images.

    The result is the mean over splits.

    Args:
        values: (methods, images).
        seed: seed of the splits.
        splits: number of splits.

    Returns:
        -1 to 1; NaN with fewer than 3 methods or 4 images.
    """
    k, images = values.shape
    if k < 3 or images < 4:
        return float("nan")
    rng = np.random.default_rng(seed)
    halves = np.stack([rng.permutation(images) < images // 2 for _ in range(splits)]).astype(np.float64)
    first = values @ halves.T / (images // 2)
    second = values @ (1 - halves).T / (images - images // 2)
    correlations = [spearman(a, b) for a, b in zip(first.T, second.T, strict=True)]
    return float(np.nanmean(correlations)) if not np.isnan(correlations).all() else float("nan")


def spearman(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Compute Spearman's correlation over the positions where both have a value.

    Returns:
        -1 to 1; NaN with fewer than 3 positions, or where one is constant.
    """
    both = np.array([first, second], dtype=np.float64)
    both = both[:, ~np.isnan(both).any(0)]
    if both.shape[1] < 3 or (np.ptp(both, axis=1) == 0).any():
        return float("nan")
    ranks = stats.rankdata(np.round(both, 12), axis=1)
    return float(np.corrcoef(ranks)[0, 1]) if np.ptp(ranks, axis=1).all() else float("nan")


def fillings(first: str, second: str) -> str:
    """Return the fills of two variants of one metric as "mean / blur".

    Empty for two different metrics.

    Args:
        first: name of a metric, such as "insertion".
        second: name of another, such as "insertion_blur".
    """
    stems = [_FILL.sub("", name).strip("_") for name in (first, second)]
    if stems[0] != stems[1] or not stems[0] or first == second:
        return ""
    fills = [match.group(1) if (match := _FILL.search(name)) else "mean" for name in (first, second)]
    return " / ".join(fills)


def _groups(
    scores: pd.DataFrame, metrics: Sequence[Mapping[str, Any]], methods: Collection[str]
) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """Yield model, ranked metric, and blocks of the methods.

    Methods without values are left out.
    """
    blocks = blocks_of(scores)
    for model in dict.fromkeys(key[0] for key in blocks):
        for metric in rankable_names(metrics, {key[2] for key in blocks if key[0] == model}):
            cells = {k[1]: block for k, block in blocks.items() if (k[0], k[2]) == (model, metric) and k[1] in methods}
            cells = {name: block for name, block in cells.items() if not np.isnan(block).all()}
            if cells:
                yield model, metric, cells

"""How far a metric can be trusted: does it say the same again, do images agree, do metrics agree?

* test-retest: correlation over images between two runs that differ in their seed, the median over methods. The seed of
  a run is that of its training, its explainers and its metrics, so this is a lower bound of the metric's own.
* agreement of images: Kendall's W of the images' orders of the methods (0 none, 1 all alike; as inter-rater
  reliability in Tomsett et al., AAAI 2020).
* split half: Spearman's correlation of the orders that two random halves of the images give, the mean over splits.
* agreement of metrics: Spearman's correlation of the orders of the methods by two metrics, among them the variants of
  one metric that fill removed pixels with the mean or a blur.

Controls are left out throughout: any metric tells noise from maps, and that would pass for agreement.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.statistics.scores import blocks, described, means_of_images, ranked_names, sign, widened

RELIABILITY_COLUMNS = ("model", "metric", "test_retest", "image_agreement", "split_half", "seeds", "methods", "images")
AGREEMENT_COLUMNS = ("model", "metric", "other", "correlation", "methods", "variants")
FILLS = ("mean", "blur", "noisy_linear", "zero", "black", "uniform")
SPLITS = 100
_FILL = re.compile(rf"(?:^|_)({'|'.join(FILLS)})(?=_|$)")


def reliability(
    scores: pd.DataFrame, metrics: Sequence[Mapping[str, Any]], methods: Collection[str], seed: int = 0
) -> pd.DataFrame:
    """`RELIABILITY_COLUMNS` of each ranked metric on each model; NaN where there is too little to tell.

    Args:
        scores: long table.
        metrics: descriptions.
        methods: explainers that know the network.
        seed: of the splits.
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
    """`AGREEMENT_COLUMNS`: rank correlation of the orders of methods, each pair of ranked metrics of a model once.

    `variants` names the fillings where the two are one metric with different ones ("mean / blur"), else it is empty.
    """
    known = described(metrics)
    by_model: dict[str, dict[str, dict[str, float]]] = {}
    for model, metric, cells in _groups(scores, metrics, methods):
        means = {name: sign(known[metric]) * float(np.nanmean(means_of_images(b))) for name, b in cells.items()}
        by_model.setdefault(model, {})[metric] = means
    rows = []
    for model, tables in by_model.items():
        for one, other in combinations(tables, 2):
            shared = sorted(set(tables[one]) & set(tables[other]))
            pairs = [[tables[name][method] for method in shared] for name in (one, other)]
            rows.append((model, one, other, spearman(*pairs), len(shared), fillings(one, other)))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def retest(cells: Sequence[np.ndarray]) -> float:
    """Median over methods of the mean correlation between seeds of blocks (seeds, images); NaN with one seed."""
    per_method = []
    for block in cells:
        pairs = [spearman(one, other) for one, other in combinations(block, 2)]
        known = [value for value in pairs if not np.isnan(value)]
        per_method += [float(np.mean(known))] if known else []
    return float(np.median(per_method)) if per_method else float("nan")


def concordance(values: np.ndarray) -> float:
    """Kendall's W of images as judges of methods, values (methods, images), corrected for ties; NaN below 3 methods.

    W = chi^2 / (images (methods - 1)), chi^2 Friedman's.
    """
    k, images = values.shape
    if k < 3 or images < 2 or (np.ptp(values, axis=0) == 0).all():
        return float("nan")
    return float(stats.friedmanchisquare(*values).statistic / (images * (k - 1)))


def split_half(values: np.ndarray, seed: int = 0, splits: int = SPLITS) -> float:
    """Mean correlation of the orders of methods from random halves of images, values (methods, images)."""
    k, images = values.shape
    if k < 3 or images < 4:
        return float("nan")
    rng = np.random.default_rng(seed)
    halves = np.stack([rng.permutation(images) < images // 2 for _ in range(splits)]).astype(np.float64)
    one = values @ halves.T / (images // 2)
    other = values @ (1 - halves).T / (images - images // 2)
    found = [spearman(a, b) for a, b in zip(one.T, other.T, strict=True)]
    return float(np.nanmean(found)) if not np.isnan(found).all() else float("nan")


def spearman(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """Spearman's correlation over places where both have a value; NaN below 3 of them or where one is constant."""
    both = np.array([one, other], dtype=np.float64)
    both = both[:, ~np.isnan(both).any(0)]
    if both.shape[1] < 3 or (np.ptp(both, axis=1) == 0).any():
        return float("nan")
    ranks = stats.rankdata(np.round(both, 12), axis=1)
    return float(np.corrcoef(ranks)[0, 1]) if np.ptp(ranks, axis=1).all() else float("nan")


def fillings(one: str, other: str) -> str:
    """What removed pixels are filled with where two names are variants of one metric, as "mean / blur"; else empty."""
    stems = [_FILL.sub("", name).strip("_") for name in (one, other)]
    if stems[0] != stems[1] or not stems[0] or one == other:
        return ""
    found = [match.group(1) if (match := _FILL.search(name)) else "mean" for name in (one, other)]
    return " / ".join(found)


def _groups(
    scores: pd.DataFrame, metrics: Sequence[Mapping[str, Any]], methods: Collection[str]
) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """Model, ranked metric, and the blocks of the methods that have values."""
    found = blocks(widened(scores)) if not scores.empty else {}
    for model in dict.fromkeys(names[0] for names in found):
        for metric in ranked_names(metrics, {names[2] for names in found if names[0] == model}):
            cells = {n[1]: b for n, b in found.items() if (n[0], n[2]) == (model, metric) and n[1] in methods}
            cells = {name: block for name, block in cells.items() if not np.isnan(block).all()}
            if cells:
                yield model, metric, cells

"""Scores by the size of the evidence: small, medium and large thirds of the images.

Large evidence is easy to hit, so a mean over all sizes hides on which images an explainer works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.intervals import DEFAULT, Resampling, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks, means_of_images, rankable_names, to_wide
from benchmarks.store.score_names import PAIR_TEST

SIZES = ("small", "medium", "large")
SIZE_COLUMNS = ("model", "explainer", "metric", "size", "least", "most", "mean", "ci_low", "ci_high", "n")


def size_bins(areas: Mapping[str, float]) -> dict[str, str]:
    """Assign each image to a third by the area of its evidence.

    Args:
        areas: image id to the share of the image that its evidence covers, 0 to 1; images without evidence are skipped.

    Returns:
        Image id to one of `SIZES`. The bounds are the terciles and equal areas share a bin. Empty if all areas are
        equal.
    """
    shares = {name: float(area) for name, area in areas.items() if area is not None and float(area) > 0}
    if len(set(shares.values())) < 2:
        return {}
    bounds = np.quantile(list(shares.values()), [1 / 3, 2 / 3])
    return {name: SIZES[int(np.searchsorted(bounds, area, side="left"))] for name, area in shares.items()}


def by_size(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    areas: Mapping[str, float],
    *,
    resampling: Resampling = DEFAULT,
) -> pd.DataFrame:
    """Compute mean and interval of each ranked metric over the images of each third.

    Args:
        scores: long table.
        metrics: descriptions.
        areas: image id to the share of the image that its evidence covers, 0 to 1; it may have images without scores.
        resampling: settings of the intervals.

    Returns:
        `SIZE_COLUMNS`; `least` and `most` are the smallest and the largest area of the third.
    """
    if scores.empty or not areas:
        return pd.DataFrame(columns=list(SIZE_COLUMNS))
    wide = to_wide(scores)
    bins = size_bins({str(name): areas[name] for name in wide.columns if name in areas})
    members = {size: np.array([bins.get(str(name)) == size for name in wide.columns]) for size in SIZES}
    areas_of = {size: [areas[name] for name in wide.columns[images]] for size, images in members.items()}
    ranked = set(rankable_names(metrics, set(wide.index.get_level_values("metric"))))
    rows = []
    for key, block in blocks(wide).items():
        for size, images in members.items():
            if key[2] in ranked - {PAIR_TEST} and images.any():
                values, bounds = block[:, images], (min(areas_of[size]), max(areas_of[size]))
                low, high = hierarchical_ci(values, resampling)
                count = int((~np.isnan(means_of_images(values))).sum())
                rows.append((*key, size, *bounds, image_mean(values), low, high, count))
    return pd.DataFrame(rows, columns=list(SIZE_COLUMNS))

"""Scores by the size of the evidence: small, medium and large thirds of the images.

Large evidence is easy to hit, so that a mean over sizes hides for whom an explainer works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.intervals import LEVEL, RESAMPLES, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks, means_of_images, ranked_names, widened

SIZES = ("small", "medium", "large")
SIZE_COLUMNS = ("model", "explainer", "metric", "size", "least", "most", "mean", "ci_low", "ci_high", "n")


def size_bins(areas: Mapping[str, float]) -> dict[str, str]:
    """Third of each image by the share of it (0 to 1] that the evidence covers; images without evidence are left out.

    Bounds are the terciles; equal areas fall into one bin. Empty where all areas are equal.
    """
    known = {name: float(area) for name, area in areas.items() if area is not None and float(area) > 0}
    if len(set(known.values())) < 2:
        return {}
    bounds = np.quantile(list(known.values()), [1 / 3, 2 / 3])
    return {name: SIZES[int(np.searchsorted(bounds, area, side="left"))] for name, area in known.items()}


def by_size(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    areas: Mapping[str, float],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """`SIZE_COLUMNS`: mean and interval of each ranked metric over the images of each third.

    Args:
        scores: long table.
        metrics: descriptions.
        areas: image id to the share of the image its evidence covers, 0 to 1; images that were not scored may be there.
        level: coverage of the intervals.
        resamples: bootstrap samples.
        seed: of the resampling.
    """
    if scores.empty or not areas:
        return pd.DataFrame(columns=list(SIZE_COLUMNS))
    wide = widened(scores)
    bins = size_bins({str(name): areas[name] for name in wide.columns if name in areas})
    groups = {size: np.array([bins.get(str(name)) == size for name in wide.columns]) for size in SIZES}
    spans = {size: [areas[name] for name in wide.columns[here]] for size, here in groups.items()}
    counted = set(ranked_names(metrics, set(wide.index.get_level_values("metric"))))
    rows = []
    for names, block in blocks(wide).items():
        for size, here in groups.items():
            if names[2] in counted and here.any():
                part = block[:, here]
                low, high = hierarchical_ci(part, level, resamples, seed)
                count = int((~np.isnan(means_of_images(part))).sum())
                rows.append((*names, size, min(spans[size]), max(spans[size]), image_mean(part), low, high, count))
    return pd.DataFrame(rows, columns=list(SIZE_COLUMNS))

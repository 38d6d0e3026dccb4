"""What the scores are: columns, which metrics count, one value an image, and the wide form that resampling reads.

Images are the unit of all statistics: what several seeds say of one image is averaged first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.store.score_names import COST, KEYS, UNRANKED_FAMILIES


def per_image(scores: pd.DataFrame) -> pd.DataFrame:
    """Long table with one value per model, explainer, metric and image: the mean over seeds, NaN skipped."""
    keys = [*KEYS, "image_id"]
    return scores.groupby(keys, sort=True, observed=True)["value"].mean().reset_index()


def widened(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per model, explainer, metric and seed, one column per image; NaN where there is no value.

    A table that is wide already comes back as it is, so that it is made once for many statistics.
    """
    if "image_id" not in scores.columns and scores.index.nlevels == len(KEYS) + 1:
        return scores
    keys = [*KEYS, "seed", "image_id"]
    # unstack, not pivot_table: that would drop rows without any value
    return scores.groupby(keys, sort=True, observed=True)["value"].mean().unstack("image_id")  # noqa: PD010


def blocks(wide: pd.DataFrame) -> dict[tuple[str, str, str], np.ndarray]:
    """Values (seeds, images) of each model, explainer and metric of a wide table.

    All blocks have the same images, those of one model the same seeds; NaN where there is no value.
    """
    values = wide.to_numpy(dtype=np.float64)
    seeds = wide.index.to_frame(index=False).groupby("model")["seed"].unique().map(sorted)
    found: dict[tuple[str, str, str], np.ndarray] = {}
    places: Any = wide.groupby(level=KEYS, sort=True, observed=True).indices
    for names, rows in places.items():
        of_model = seeds[names[0]]
        block = np.full((len(of_model), values.shape[1]), np.nan)
        block[[of_model.index(seed) for seed in wide.index.get_level_values("seed")[rows]]] = values[rows]
        found[names] = block
    return found


def means_of_images(block: np.ndarray) -> np.ndarray:
    """Mean over seeds (n,) of a block (seeds, n); NaN where no seed has a value."""
    there = ~np.isnan(block)
    total = np.where(there, block, 0.0).sum(0)
    return np.where(there.any(0), total / np.maximum(there.sum(0), 1), np.nan)


def described(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """What is known of each metric, by name; the two cost scores are known without being described."""
    return {**COST, **{entry["name"]: entry for entry in metrics if "name" in entry}}


def is_ranked(metric: Mapping[str, Any]) -> bool:
    """Whether a metric counts: it has a better direction, is meant to be ranked, and judges quality, not cost."""
    judged = metric.get("direction") in ("higher", "lower") and metric.get("family") not in UNRANKED_FAMILIES
    return judged and bool(metric.get("ranked", True))


def sign(metric: Mapping[str, Any]) -> float:
    """1 where higher is better, -1 where lower is."""
    return 1.0 if metric.get("direction") == "higher" else -1.0


def ranked_names(metrics: Sequence[Mapping[str, Any]], measured: Collection[str]) -> list[str]:
    """Names of the metrics that count and were measured, in the order of their descriptions."""
    return [name for name, entry in described(metrics).items() if is_ranked(entry) and name in measured]

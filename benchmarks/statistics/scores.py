"""Helpers on tables of scores: ranked metrics, one value an image, and the wide form used for resampling.

Images are the unit of all statistics: values of one image under several seeds are averaged first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.store.score_names import COST, KEYS, UNRANKED_FAMILIES


def per_image(scores: pd.DataFrame) -> pd.DataFrame:
    """Average a long table over seeds.

    There is one value per model, explainer, metric and image. NaN are skipped.
    """
    keys = [*KEYS, "image_id"]
    return scores.groupby(keys, sort=True, observed=True)["value"].mean().reset_index()


def to_wide(scores: pd.DataFrame) -> pd.DataFrame:
    """Turn a long table into one with a column per image.

    There is one row per model, explainer, metric and seed. Missing values are NaN. A wide table is returned as it is,
    so one conversion can serve many statistics.
    """
    if "image_id" not in scores.columns and scores.index.nlevels == len(KEYS) + 1:
        return scores
    keys = [*KEYS, "seed", "image_id"]
    # unstack, not pivot_table: that would drop rows without any value
    return scores.groupby(keys, sort=True, observed=True)["value"].mean().unstack("image_id")  # noqa: PD010


def blocks(wide: pd.DataFrame) -> dict[tuple[str, str, str], np.ndarray]:
    """Split a wide table into values (seeds, images) of each model, explainer and metric.

    All blocks have the same images, and those of one model the same seeds; missing values are NaN.
    """
    values = wide.to_numpy(dtype=np.float64)
    seeds = wide.index.to_frame(index=False).groupby("model")["seed"].unique().map(sorted)
    by_key: dict[tuple[str, str, str], np.ndarray] = {}
    groups: Any = wide.groupby(level=KEYS, sort=True, observed=True).indices
    for key, rows in groups.items():
        model_seeds = seeds[key[0]]
        block = np.full((len(model_seeds), values.shape[1]), np.nan)
        block[[model_seeds.index(seed) for seed in wide.index.get_level_values("seed")[rows]]] = values[rows]
        by_key[key] = block
    return by_key


def blocks_of(scores: pd.DataFrame) -> dict[tuple[str, str, str], np.ndarray]:
    """Return the `blocks` of a long or wide table, none for an empty one."""
    return {} if scores.empty else blocks(to_wide(scores))


def means_of_images(block: np.ndarray) -> np.ndarray:
    """Average a block (seeds, n) over seeds, (n,).

    NaN for an image without any value.
    """
    has_value = ~np.isnan(block)
    total = np.where(has_value, block, 0.0).sum(0)
    return np.where(has_value.any(0), total / np.maximum(has_value.sum(0), 1), np.nan)


def by_name(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Index descriptions of metrics by name, and add those of the two cost scores."""
    return {**COST, **{entry["name"]: entry for entry in metrics if "name" in entry}}


def is_ranked(metric: Mapping[str, Any]) -> bool:
    """Return whether a metric has a rank.

    It needs a better direction, a family that is ranked, and no `ranked: False`.
    """
    judges_quality = metric.get("direction") in ("higher", "lower") and metric.get("family") not in UNRANKED_FAMILIES
    return judges_quality and bool(metric.get("ranked", True))


def sign(metric: Mapping[str, Any]) -> float:
    """Return 1 where higher is better, else -1."""
    return 1.0 if metric.get("direction") == "higher" else -1.0


def rankable_names(metrics: Sequence[Mapping[str, Any]], names: Collection[str]) -> list[str]:
    """List those of `names` that are ranked metrics, in the order of their descriptions."""
    return [name for name, entry in by_name(metrics).items() if is_ranked(entry) and name in names]


def is_gated(rows: pd.DataFrame, gated: Iterable[tuple[str, str]]) -> np.ndarray:
    """Return which rows (n,) bool belong to a (model, metric) of `gated`."""
    failed = set(gated)
    return np.array([pair in failed for pair in zip(rows["model"], rows["metric"], strict=True)], dtype=bool)

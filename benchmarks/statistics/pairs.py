"""Shares of maps on a cue in both networks of a pair, with intervals over images.

Two ratios stand beside each other. The geometric mean of the images' ratios weighs every image alike; the ratio of the
mean shares weighs images by how much of the map lies on the cue. Both are 1 for a map that ignores the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.intervals import DEFAULT, Resampling, bootstrap_ci, draws
from benchmarks.statistics.scores import blocks_of, means_of_images, to_wide
from benchmarks.store.score_names import PAIR_EMPTY, PAIR_SEPARATOR, PAIR_TEST, PAIR_TWIN, PAIR_USER

_NUMBERS = ("user", "twin", "ratio", "ratio_of_means", "ahead")
PAIR_COLUMNS = (
    "pair", "model", "explainer",
    *(name + ending for name in _NUMBERS for ending in ("", "_low", "_high")),
    "empty", "n",
)  # fmt: skip


def pair_shares(scores: pd.DataFrame, *, resampling: Resampling = DEFAULT) -> pd.DataFrame:
    """Summarise the pair test of every pair, model and explainer.

    Args:
        scores: long table; images of a pair have its name at the beginning of their ids.
        resampling: settings of the intervals.

    Returns:
        `PAIR_COLUMNS`, see `summarise_pair`. Values of one image under several seeds are averaged first.
    """
    rows = scores[scores["metric"].isin([PAIR_TEST, PAIR_USER, PAIR_TWIN, PAIR_EMPTY])]
    summaries = [
        {"pair": pair, "model": model, "explainer": explainer, **summarise_pair(columns, resampling)}
        for pair, table in rows.groupby(rows["image_id"].str.split(PAIR_SEPARATOR, n=1).str[0], sort=False)
        for (model, explainer), columns in _columns_of(table)
    ]
    return pd.DataFrame(summaries, columns=list(PAIR_COLUMNS))


def _columns_of(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], dict[str, np.ndarray]]]:
    """Yield (model, explainer), and values (n,) by name of the score."""
    blocks = blocks_of(to_wide(table))
    for model, explainer in dict.fromkeys(key[:2] for key in blocks):
        columns = {
            name: means_of_images(block) for (*pair, name), block in blocks.items() if pair == [model, explainer]
        }
        if PAIR_TEST in columns and not np.isnan(columns[PAIR_TEST]).all():
            has_score = ~np.isnan(columns[PAIR_TEST])
            yield (model, explainer), {name: column[has_score] for name, column in columns.items()}


def summarise_pair(columns: Mapping[str, np.ndarray], resampling: Resampling = DEFAULT) -> dict[str, Any]:
    """Summarise one explainer on one pair.

    Args:
        columns: values (n,) by name: `pair_test`, `pair_user`, `pair_twin` and `pair_empty`.
        resampling: settings of the intervals.

    Returns:
        With intervals `_low` and `_high`: mean shares `user` and `twin`; `ratio`, the geometric mean of the images'
        ratios; `ratio_of_means`; `ahead`, the share of images on which the user has more. Then `empty`, the number of
        images on which a map has no share, and `n`, the number of images.
    """
    user, twin = columns[PAIR_USER], columns[PAIR_TWIN]
    has_both = columns[PAIR_EMPTY] == 0
    numbers = {
        "user": (user.mean(), *bootstrap_ci(user, resampling)),
        "twin": (twin.mean(), *bootstrap_ci(twin, resampling)),
        "ratio": tuple(
            2.0**value for value in (columns[PAIR_TEST].mean(), *bootstrap_ci(columns[PAIR_TEST], resampling))
        ),
        "ratio_of_means": (_divide(user.mean(), twin.mean()), *_interval_of_ratio(user, twin, resampling)),
        "ahead": _mean_with_interval((user > twin) & has_both, resampling),
    }
    spans = {
        name + ending: float(value)
        for name, values in numbers.items()
        for ending, value in zip(("", "_low", "_high"), values, strict=True)
    }
    return {**spans, "empty": int((~has_both).sum()), "n": len(user)}


def _mean_with_interval(values: np.ndarray, resampling: Resampling) -> tuple[float, float, float]:
    return (float(values.mean()), *bootstrap_ci(values, resampling))


def _interval_of_ratio(user: np.ndarray, twin: np.ndarray, resampling: Resampling) -> tuple[float, float]:
    """Return the percentile interval of the ratio of two means over the same images."""
    _, counts = draws(1, len(user), resampling.resamples, resampling.seed)
    ratios = _divide(counts @ user, counts @ twin)
    return resampling.interval(ratios) if len(user) > 1 and np.isfinite(ratios).all() else (float("nan"), float("nan"))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, NaN where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(denominator) > 0, np.asarray(numerator) / denominator, np.nan)

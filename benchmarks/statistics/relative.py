"""Scores of several networks on one scale: 0 for random maps, 1 for the evidence mask of that network.

Raw scores of two networks differ because the networks do: how fast a probability falls is a property of the network.
The position between random maps and the mask can be compared.

Known limit: the scale blows up for a metric that hardly separates mask from noise, so gated metrics have no relative
score.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from benchmarks.store.score_names import CHANCE, MASK

RELATIVE_COLUMNS = ("model", "explainer", "metric", "relative")


def relative_scores(summary: pd.DataFrame, gated: Collection[tuple[str, str]] = ()) -> pd.DataFrame:
    """Compute (mean - random) / (mask - random) of each score.

    Metrics need both, and a rank.

    Args:
        summary: from `summarise`.
        gated: (model, metric) that are left out.

    Returns:
        `RELATIVE_COLUMNS`.
    """
    rows = []
    for (model, metric), group in summary.groupby(["model", "metric"], observed=True):
        means = dict(zip(group["explainer"], group["mean"], strict=True))
        low, high = means.get(CHANCE, np.nan), means.get(MASK, np.nan)
        if (model, metric) in set(gated) or group["rank"].isna().all() or not abs(high - low) > 0:
            continue
        rows += [(model, name, metric, (mean - low) / (high - low)) for name, mean in means.items()]
    return pd.DataFrame(rows, columns=list(RELATIVE_COLUMNS))

"""Scores of two networks on one scale: 0 where random maps are, 1 where the evidence mask is, on that network.

Raw scores of two networks differ because the networks do (how fast a probability falls is the network's); their place
between noise and answer can be compared. Known limit: a metric that hardly tells mask from noise blows the scale up, so
gated metrics have none.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from benchmarks.store.score_names import CHANCE, MASK

RELATIVE_COLUMNS = ("model", "explainer", "metric", "relative")


def relative_scores(summary: pd.DataFrame, gated: Collection[tuple[str, str]] = ()) -> pd.DataFrame:
    """`RELATIVE_COLUMNS`: (mean - random) / (mask - random) of each row of `summarise` whose metric has both."""
    rows = []
    for (model, metric), group in summary.groupby(["model", "metric"], observed=True):
        means = dict(zip(group["explainer"], group["mean"], strict=True))
        low, high = means.get(CHANCE, np.nan), means.get(MASK, np.nan)
        if (model, metric) in set(gated) or group["rank"].isna().all() or not abs(high - low) > 0:
            continue
        rows += [(model, name, metric, (mean - low) / (high - low)) for name, mean in means.items()]
    return pd.DataFrame(rows, columns=list(RELATIVE_COLUMNS))

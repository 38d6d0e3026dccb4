"""Gate of the metrics: does a metric tell good maps from bad ones on this task?

A metric passes if it puts the evidence mask above the median method and the median method above random maps. A metric
with another order does not measure explanations here, whatever it measures elsewhere (Tomsett et al., AAAI 2020:
metrics can be unreliable). It stays in the tables and is left out of the mean rank. The reason also says whether the
order could be due to the choice of images.

Known limit: a network need not use the mask. One that looks at the background fails faithfulness metrics honestly, so
read a failed gate of a faithfulness metric together with the accuracy of the network.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.intervals import DEFAULT, Resampling, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks_of, by_name, rankable_names, sign
from benchmarks.store.score_names import CHANCE, MASK

GATE_COLUMNS = ("model", "metric", "mask", "methods", "chance", "verdict", "reason")
PASSED, DOUBTFUL, FAILED, UNKNOWN = "passed", "doubtful", "failed", "not judged"


@dataclass(frozen=True)
class _ExpectedOrder:
    """Two blocks of scores (seeds, images), of which `better` must have the better mean."""

    better: np.ndarray
    worse: np.ndarray
    names: tuple[str, str]


def gate(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    methods: Collection[str],
    *,
    resampling: Resampling = DEFAULT,
) -> pd.DataFrame:
    """Check that mask > median of the methods > random.

    Each ranked metric is checked on each model.

    Args:
        scores: long table.
        metrics: descriptions.
        methods: explainers that know the network; controls do not.
        resampling: settings of the paired intervals that separate "passed" from "doubtful".

    Returns:
        `GATE_COLUMNS`: means of the mask (NaN without masks), of the median method and of random. The verdict is
        "failed" if an order of the means is wrong. It is "doubtful" if the order is right but the interval of the
        paired difference holds zero; with an even number of methods the two in the middle are averaged image by image.
        It is "not judged" without random or methods.
    """
    blocks = blocks_of(scores)
    descriptions = by_name(metrics)
    rows = []
    for model in dict.fromkeys(key[0] for key in blocks):
        for metric in rankable_names(metrics, {key[2] for key in blocks if key[0] == model}):
            cells = {key[1]: block for key, block in blocks.items() if (key[0], key[2]) == (model, metric)}
            means = {name: image_mean(block) for name, block in cells.items()}
            median = median_methods(means, methods)
            method_mean = float(np.mean([means[name] for name in median])) if median else float("nan")
            verdict, reason = _judge(cells, means, median, sign(descriptions[metric]), resampling)
            mask_mean, chance = means.get(MASK, np.nan), means.get(CHANCE, np.nan)
            rows.append((model, metric, mask_mean, method_mean, chance, verdict, reason))
    return pd.DataFrame(rows, columns=list(GATE_COLUMNS))


def gate_failures(gates: pd.DataFrame) -> set[tuple[str, str]]:
    """Return the (model, metric) that failed."""
    rows = gates[gates["verdict"] == FAILED]
    return set(zip(rows["model"], rows["metric"], strict=True))


def median_methods(means: Mapping[str, float], methods: Collection[str]) -> list[str]:
    """Return the one or two methods with the median mean score.

    None where no method has scores.
    """
    ordered = sorted((value, name) for name, value in means.items() if name in methods and not np.isnan(value))
    return [name for _, name in ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]] if ordered else []


def _judge(
    cells: Mapping[str, np.ndarray],
    means: Mapping[str, float],
    median: Sequence[str],
    direction: float,
    resampling: Resampling,
) -> tuple[str, str]:
    """Return verdict and reason of one metric on one model.

    Args:
        cells: blocks (seeds, images) by explainer.
        means: their means.
        median: names of the median methods.
        direction: 1 where higher is better, else -1.
        resampling: settings of the intervals.
    """
    if not median or np.isnan(means.get(CHANCE, np.nan)):
        return UNKNOWN, f"no {'scores of a method' if not median else 'random control'} to judge it by"
    middle = np.mean([cells[name] for name in median], axis=0)
    orders = [_ExpectedOrder(middle, cells[CHANCE], ("the median method", "random"))]
    if not np.isnan(means.get(MASK, np.nan)):
        orders.insert(0, _ExpectedOrder(cells[MASK], middle, ("the evidence mask", "the median method")))
    wrong, unsure = [], []
    for order in orders:
        difference = direction * (order.better - order.worse)
        numbers = f"({image_mean(order.better):.3g} and {image_mean(order.worse):.3g})"
        if not image_mean(difference) > 0:
            wrong.append(f"{order.names[0]} is not better than {order.names[1]} {numbers}")
        elif not hierarchical_ci(difference, resampling)[0] > 0:
            unsure.append(f"{order.names[0]} is better than {order.names[1]} only within the noise {numbers}")
    if wrong:
        return FAILED, "; ".join(wrong)
    if unsure:
        return DOUBTFUL, "; ".join(unsure)
    return PASSED, " and ".join(f"{order.names[0]} is better than {order.names[1]}" for order in orders)

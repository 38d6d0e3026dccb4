"""Does a metric tell good maps from bad ones on this task? It must put the evidence mask above the methods and the
methods above noise.

A metric that ranks noise above half of the methods, or half of the methods above the answer itself, does not measure
explanations here, whatever it measures elsewhere (Tomsett et al., AAAI 2020: metrics can be unreliable). It stays in
the tables and is left out of the mean rank. Whether the order could be the choice of images is said beside it.

Known limit: what the network uses need not be the mask (a network that looks at the background fails faithfulness
metrics honestly), so that a failed gate of a faithfulness metric may be the network's doing; read it with the accuracy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.intervals import LEVEL, RESAMPLES, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks, described, ranked_names, sign, widened
from benchmarks.store.score_names import CHANCE, MASK

GATE_COLUMNS = ("model", "metric", "mask", "methods", "chance", "verdict", "reason")
PASSED, DOUBTFUL, FAILED, UNKNOWN = "passed", "doubtful", "failed", "not judged"


@dataclass(frozen=True)
class _Side:
    """One of the two orders that are asked for: `better` must have a better mean than `worse`."""

    better: np.ndarray
    worse: np.ndarray
    names: tuple[str, str]


def gate(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    methods: Collection[str],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Judge each ranked metric on each model by mask > median of the methods > random.

    Args:
        scores: long table.
        metrics: descriptions.
        methods: explainers that know the network (controls are none).
        level: coverage of the paired intervals that tell "passed" from "doubtful".
        resamples: bootstrap samples.
        seed: of the resampling.

    Returns:
        `GATE_COLUMNS`: means of the mask (NaN where there is none), of the median method, of random. Verdict "failed"
        where an order is wrong in the means; "doubtful" where it is right but the interval of the paired difference
        (method with the median mean, image by image) holds zero; "not judged" without random or methods.
    """
    found = blocks(widened(scores)) if not scores.empty else {}
    known = described(metrics)
    rows = []
    for model in dict.fromkeys(names[0] for names in found):
        for metric in ranked_names(metrics, {names[2] for names in found if names[0] == model}):
            cells = {n[1]: block for n, block in found.items() if (n[0], n[2]) == (model, metric)}
            means = {name: image_mean(block) for name, block in cells.items()}
            middle = median_methods(means, methods)
            shown = means.get(MASK, np.nan), _mean_of(means, middle), means.get(CHANCE, np.nan)
            judged = _judged(cells, means, middle, known[metric], (level, resamples, seed))
            rows.append((model, metric, *shown, *judged))
    return pd.DataFrame(rows, columns=list(GATE_COLUMNS))


def failing(gates: pd.DataFrame) -> set[tuple[str, str]]:
    """(model, metric) that failed."""
    rows = gates[gates["verdict"] == FAILED]
    return set(zip(rows["model"], rows["metric"], strict=True))


def median_methods(means: Mapping[str, float], methods: Collection[str]) -> list[str]:
    """The one or two methods whose mean scores make the median; none where no method has scores."""
    ordered = sorted((value, name) for name, value in means.items() if name in methods and not np.isnan(value))
    return [name for _, name in ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]] if ordered else []


def _mean_of(means: Mapping[str, float], names: Collection[str]) -> float:
    return float(np.mean([means[name] for name in names])) if names else float("nan")


def _judged(
    cells: Mapping[str, np.ndarray],
    means: Mapping[str, float],
    median: list[str],
    metric: Mapping[str, Any],
    options: tuple[float, int, int],
) -> tuple[str, str]:
    if not median or np.isnan(means.get(CHANCE, np.nan)):
        return UNKNOWN, f"no {'scores of a method' if not median else 'random control'} to judge it by"
    middle = np.mean([cells[name] for name in median], axis=0)
    sides = [_Side(middle, cells[CHANCE], ("the median method", "random"))]
    if not np.isnan(means.get(MASK, np.nan)):
        sides.insert(0, _Side(cells[MASK], middle, ("the evidence mask", "the median method")))
    wrong, unsure = [], []
    for side in sides:
        difference = sign(metric) * (side.better - side.worse)
        numbers = f"({image_mean(side.better):.3g} and {image_mean(side.worse):.3g})"
        if not image_mean(difference) > 0:
            wrong.append(f"{side.names[0]} is not better than {side.names[1]} {numbers}")
        elif not hierarchical_ci(difference, *options)[0] > 0:
            unsure.append(f"{side.names[0]} is better than {side.names[1]} only within the noise {numbers}")
    if wrong:
        return FAILED, "; ".join(wrong)
    if unsure:
        return DOUBTFUL, "; ".join(unsure)
    return PASSED, " and ".join(f"{side.names[0]} is better than {side.names[1]}" for side in sides)

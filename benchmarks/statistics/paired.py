"""How far one explainer is ahead of the others, image by image: intervals, signed-rank tests, effect sizes.

Wilcoxon's signed-rank test with Pratt's treatment of zeros (they are ranked, then left out of both sums; 1959), ties
at their average rank, by scipy; Holm's correction over all comparisons of a model (1979), by statsmodels. The effect
size is the matched-pairs rank-biserial correlation (Kerby 2014) on the same ranks: the share of rank mass in favour
minus the share against, zeros counting for neither, so -1 to 1.

Known limits: the test's unit is the image, seeds are averaged before it; the intervals are not corrected for the number
of comparisons. Means and ranks can point in opposite directions where differences are skewed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from benchmarks.statistics.intervals import LEVEL, RESAMPLES, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks, described, is_ranked, means_of_images, sign, widened

PAIRED_COLUMNS = (
    "model", "explainer", "metric", "difference", "ci_low", "ci_high", "n", "verdict", "p", "p_holm", "rank_biserial",
)  # fmt: skip
ALPHA = 0.05
_NOISE = 1e-12


def paired_differences(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    reference: str,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """How far `reference` is ahead of every other explainer of its models, image by image, on the ranked metrics.

    Returns:
        `PAIRED_COLUMNS`. `difference` is the mean over the images both have, in the metric's unit, positive where the
        reference is better; so is `rank_biserial`. The verdict is "ahead" or "behind" where the interval leaves out
        zero, else "level"; "unknown" with fewer than two images. `p_holm` is corrected over the rows of a model.
    """
    known = described(metrics)
    found = blocks(widened(scores)) if not scores.empty else {}
    rows = []
    for (model, other, metric), block in found.items():
        own = found.get((model, reference, metric))
        if own is None or other == reference or not is_ranked(known.get(metric, {})):
            continue
        difference = sign(known[metric]) * _minus(own, block)
        low, high = hierarchical_ci(difference, level, resamples, seed)
        values = means_of_images(difference)
        values = values[~np.isnan(values)]
        p, effect = signed_rank(values)
        rows.append(
            (model, other, metric, image_mean(difference), low, high, len(values), _verdict(low, high), p, effect)
        )
    table = pd.DataFrame(rows, columns=[name for name in PAIRED_COLUMNS if name != "p_holm"])
    table["p_holm"] = table.groupby("model", observed=True)["p"].transform(lambda p: holm(p.to_numpy()))
    return table[list(PAIRED_COLUMNS)].sort_values(["model", "metric", "explainer"], ignore_index=True)


def signed_rank(differences: ArrayLike) -> tuple[float, float]:
    """Two-sided p of Wilcoxon's signed-rank test and rank-biserial correlation of paired differences (n,).

    Returns:
        (p, r). (1, 0) where all differences are zero, NaN with fewer than two.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    if not values.any():
        return 1.0, 0.0
    ranks = stats.rankdata(np.abs(values))
    effect = float((ranks * np.sign(values)).sum() / ranks.sum())
    return float(stats.wilcoxon(values, zero_method="pratt").pvalue), effect


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjusted p (k,); NaN are not counted and stay."""
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    there = ~np.isnan(values)
    if there.any():
        from statsmodels.stats.multitest import multipletests

        adjusted[there] = multipletests(values[there], method="holm")[1]
    return adjusted


def holding(paired: pd.DataFrame, verdicts: Iterable[str] = ("ahead", "behind")) -> int:
    """How many verdicts of the paired table still hold at 5 % after Holm's correction."""
    return int((paired["verdict"].isin(list(verdicts)) & (paired["p_holm"] < ALPHA)).sum())


def _minus(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Difference of two blocks (seeds, images); what is only rounding becomes zero."""
    difference = one - other
    scale = np.maximum(np.abs(one), np.abs(other))
    return np.where(np.abs(difference) <= _NOISE * scale, 0.0, difference)


def _verdict(low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return "unknown"
    if low > 0:
        return "ahead"
    return "behind" if high < 0 else "level"

"""Paired comparison of one explainer with the others, image by image: intervals, signed-rank tests, effect sizes.

The test is Wilcoxon's signed-rank test by scipy, with Pratt's treatment of zeros (1959: zeros are ranked, then left out
of both sums). Ties have their average rank. Holm's correction (1979, by statsmodels) covers all comparisons of a model.
The effect size is the matched-pairs rank-biserial correlation (Kerby 2014) on the same ranks: the share of rank mass in
favour minus the share against, from -1 to 1; zeros count for neither.

Known limits: the unit of the test is the image, so seeds are averaged first. The intervals are not corrected for the
number of comparisons. Means and ranks can point in opposite directions where differences are skewed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from benchmarks.statistics.intervals import DEFAULT, Resampling, hierarchical_ci, image_mean
from benchmarks.statistics.scores import blocks_of, by_name, is_ranked, means_of_images, sign

PAIRED_COLUMNS = (
    "model", "explainer", "metric", "difference", "ci_low", "ci_high", "n", "verdict", "p", "p_holm", "rank_biserial",
)  # fmt: skip
ALPHA = 0.05
_ROUNDING = 1e-12


def paired_differences(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    reference: str,
    *,
    resampling: Resampling = DEFAULT,
) -> pd.DataFrame:
    """Compare `reference` with every other explainer, image by image.

    Only ranked metrics are compared.

    Args:
        scores: long table.
        metrics: descriptions.
        reference: name of the explainer that the others are compared with.
        resampling: settings of the intervals.

    Returns:
        `PAIRED_COLUMNS`. `difference` is the mean over the images that both have, in the metric's unit; it and
        `rank_biserial` are positive where the reference is better. The verdict is "ahead" or "behind" where the
        interval leaves out zero, else "level"; "unknown" with fewer than two images. `p_holm` is corrected over the
        rows of a model.
    """
    descriptions, blocks = by_name(metrics), blocks_of(scores)
    rows = []
    for (model, explainer, metric), block in blocks.items():
        reference_block = blocks.get((model, reference, metric))
        if reference_block is None or explainer == reference or not is_ranked(descriptions.get(metric, {})):
            continue
        difference = sign(descriptions[metric]) * _difference(reference_block, block)
        low, high = hierarchical_ci(difference, resampling)
        values = means_of_images(difference)
        values = values[~np.isnan(values)]
        p, effect = signed_rank(values)
        mean, verdict = image_mean(difference), _verdict(low, high)
        rows.append((model, explainer, metric, mean, low, high, len(values), verdict, p, effect))
    table = pd.DataFrame(rows, columns=[name for name in PAIRED_COLUMNS if name != "p_holm"])
    table["p_holm"] = table.groupby("model", observed=True)["p"].transform(lambda p: holm(p.to_numpy()))
    return table[list(PAIRED_COLUMNS)].sort_values(["model", "metric", "explainer"], ignore_index=True)


def signed_rank(differences: ArrayLike) -> tuple[float, float]:
    """Test paired differences (n,) with Wilcoxon's signed-rank test.

    Returns:
        Two-sided p and rank-biserial correlation. (1, 0) if all differences are zero, NaN with fewer than two.
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
    """Adjust p values (k,) by Holm's step-down method.

    NaN are not counted and stay.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    has_value = ~np.isnan(values)
    if has_value.any():
        from statsmodels.stats.multitest import multipletests

        adjusted[has_value] = multipletests(values[has_value], method="holm")[1]
    return adjusted


def count_significant(paired: pd.DataFrame, verdicts: Iterable[str] = ("ahead", "behind")) -> int:
    """Count the verdicts that are significant after Holm's correction.

    The level is 5 %.
    """
    return int((paired["verdict"].isin(list(verdicts)) & (paired["p_holm"] < ALPHA)).sum())


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Subtract two blocks (seeds, images) and set rounding errors to zero."""
    difference = first - second
    scale = np.maximum(np.abs(first), np.abs(second))
    return np.where(np.abs(difference) <= _ROUNDING * scale, 0.0, difference)


def _verdict(low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return "unknown"
    if low > 0:
        return "ahead"
    return "behind" if high < 0 else "level"

"""Faithfulness: does the network's output follow the map when pixels are removed? Three classes of Quantus.

Removed pixels become 0, the mean of the data set in normalised units: "black" would favour maps that avoid dark
regions. Curves are run in both orders, most relevant first (MoRF) and least relevant first (LeRF), and only their
difference is ranked: what removal does to any image, whichever pixels go, cancels. Curves read probabilities,
correlations logits.

Known limits: removal without retraining is out of distribution, and blurred maps are favoured by it. Images must have
sides with suitable divisors, since Quantus asks for equal steps; a multiple of 8 always has.
"""

from __future__ import annotations

from math import gcd, log, prod
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Metric, Score, metrics
from benchmarks.metrics.maps import from_zero, ranks, reversed_ranks
from benchmarks.metrics.quantus_adapter import evaluate, predictions
from interp_core.errors import ContractError

BASELINE = 0.0


def nearest_divisor(number: int, wanted: float) -> int | None:
    """Divisor of `number` nearest to `wanted` in ratio, the smaller of two alike; None if all are off by over 2."""
    divisors = [d for d in range(1, number + 1) if number % d == 0 and 0.5 <= d / wanted <= 2]
    return min(divisors, key=lambda d: abs(log(d / wanted)), default=None)


def features_in_step(shape: tuple[int, ...], steps: int) -> int:
    """How many of the C*H*W features go at once, for about `steps` steps.

    Args:
        shape: (C, H, W) of an image.
        steps: wanted number of steps.

    Raises:
        ContractError: no divisor of H*W lies within a factor 2 of it, as Quantus needs.
    """
    chosen = nearest_divisor(prod(shape[1:]), prod(shape) / steps)
    if chosen is None:
        raise ContractError(
            f"pixel_flipping cannot take {shape[1]} x {shape[2]} pixels away in about {steps} equal steps: "
            "resize images to a multiple of 8 or change steps"
        )
    return chosen


def patch_side(shape: tuple[int, ...], patches_per_side: int) -> int:
    """Side in pixels of the square regions that fill an image (C, H, W), about `patches_per_side` on its shorter side.

    Whole regions only: a region cut by the border would rank low for its size and not for what it says.

    Raises:
        ContractError: no common divisor of H and W lies within a factor 2 of it.
    """
    height, width = shape[1:]
    chosen = nearest_divisor(gcd(height, width), min(height, width) / patches_per_side)
    if chosen is None:
        raise ContractError(
            f"region_perturbation cannot cut {height} x {width} pixels into about {patches_per_side} equal regions "
            "a side: resize images to a multiple of 8 or change patches_per_side"
        )
    return chosen


def area_under(curves: np.ndarray) -> np.ndarray:
    """Area (N,) under curves (N, steps + 1) by the trapezoid rule, divided by the number of steps."""
    return ((curves[:, 1:] + curves[:, :-1]) / 2).mean(1)


@metrics.register("pixel_flipping")
class PixelFlipping(Metric):
    """Area under the target's probability while pixels are removed, from none to all, in the map's order.

    `pixel_flipping` = LeRF area - MoRF area. The unperturbed point, which Quantus leaves out, is added. With a single
    channel or steps of whole pixels no pixel is split; else at most one per step is removed channel by channel.
    Source: Bach et al. 2015, both orders as in Samek et al. 2017; curves by quantus.PixelFlipping.

    Args:
        steps: wanted number of steps; see `features_in_step`.
    """

    title: ClassVar[str] = "Pixel flipping"
    needs_model: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("pixel_flipping_morf", "Pixel flipping, MoRF area", "lower", 0.0, 1.0, ranked=False),
        Score("pixel_flipping_lerf", "Pixel flipping, LeRF area", "higher", 0.0, 1.0, ranked=False),
        Score("pixel_flipping", "Pixel flipping, LeRF - MoRF", "higher", -1.0, 1.0),
    )

    steps: int = Field(default=24, ge=2)

    def curves(self, batch: Batch, order: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Probabilities (N, steps + 1) while pixels go from the highest of `order` down; `start` (N,) comes first."""
        step = features_in_step(batch.images.shape[1:], self.steps)
        rest = evaluate(
            "PixelFlipping", batch, order, probabilities=True, features_in_step=step, perturb_baseline=BASELINE
        )
        return np.concatenate([start[:, None], rest], axis=1)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        start = predictions(batch)
        morf = area_under(self.curves(batch, ranks(batch.maps), start))
        lerf = area_under(self.curves(batch, reversed_ranks(batch.maps), start))
        return {"pixel_flipping_morf": morf, "pixel_flipping_lerf": lerf, "pixel_flipping": lerf - morf}


@metrics.register("region_perturbation")
class RegionPerturbation(Metric):
    """Mean drop of the target's probability while whole square regions are removed, by the sum of the map over each.

        drop = mean over l = 1..L of p(nothing removed) - p(l regions removed)

    `region_perturbation` = MoRF drop - LeRF drop. Quantus declares the drop "lower is better", which holds for LeRF
    only. Source: Samek et al. 2017; curves by quantus.RegionPerturbation.

    Args:
        patches_per_side: wanted number of regions along the shorter side; see `patch_side`.
    """

    title: ClassVar[str] = "Region perturbation"
    needs_model: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("region_perturbation_morf", "Region perturbation, MoRF drop", "higher", -1.0, 1.0, ranked=False),
        Score("region_perturbation_lerf", "Region perturbation, LeRF drop", "lower", -1.0, 1.0, ranked=False),
        Score("region_perturbation", "Region perturbation, MoRF - LeRF", "higher", -1.0, 1.0),
    )

    patches_per_side: int = Field(default=8, ge=2)

    def drops(self, batch: Batch, order: Literal["morf", "lerf"]) -> np.ndarray:
        """Drops of probability (N, regions), regions removed one after the other."""
        height, width = batch.images.shape[-2:]
        side = patch_side(batch.images.shape[1:], self.patches_per_side)
        return evaluate(
            "RegionPerturbation",
            batch,
            from_zero(batch.maps),
            probabilities=True,
            order=order,
            patch_size=side,
            regions_evaluation=(height // side) * (width // side),
            perturb_baseline=BASELINE,
        )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        morf, lerf = self.drops(batch, "morf").mean(1), self.drops(batch, "lerf").mean(1)
        return {
            "region_perturbation_morf": morf,
            "region_perturbation_lerf": lerf,
            "region_perturbation": morf - lerf,
        }


@metrics.register("faithfulness_correlation")
class FaithfulnessCorrelation(Metric):
    """Pearson correlation, over random subsets of features, of the map's sum with the drop of the target's logit.

    Subsets are drawn from C*H*W features, each with the value of its pixel. NaN for an image whose logit no subset
    moves. The draws depend on the seed and on the image's place in the batch; with 100 runs one image's value is noisy.
    Source: Bhatt, Weller and Moura 2020; quantus.FaithfulnessCorrelation.

    Args:
        runs: number of subsets per image.
        subset_share: share of the features in each subset.
    """

    title: ClassVar[str] = "Faithfulness correlation"
    needs_model: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("faithfulness_correlation", "Faithfulness correlation", "higher", -1.0, 1.0),
    )

    runs: int = Field(default=100, ge=2)
    subset_share: float = Field(default=0.10, gt=0.0, lt=1.0)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        values = evaluate(
            "FaithfulnessCorrelation",
            batch,
            from_zero(batch.maps),
            nr_runs=self.runs,
            subset_size=max(1, round(self.subset_share * prod(batch.images.shape[1:]))),
            perturb_baseline=BASELINE,
        )
        return {"faithfulness_correlation": values}

"""Correlation metrics: does the sum of the map over removed pixels follow the drop of the target's logit?

Each removal is from the whole image: random subsets (faithfulness correlation), square patches (single deletion,
infidelity), or groups of pixels in the map's order (faithfulness estimate). Subsets and patches do not depend on the
map, so their forward passes serve all explainers of the same images.

Known limits: removal without retraining is out of distribution. Scattered random pixels look like noise to a network,
so faithfulness correlation is low and noisy for all maps.
"""

from __future__ import annotations

from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import stats
from torch import Tensor

from benchmarks.metrics.base import Batch, Metric, Score, metrics, passes_of
from benchmarks.metrics.map_ranks import subtract_minimum
from benchmarks.metrics.quantus_adapter import BATCH_SIZE, evaluate, replace_by
from benchmarks.metrics.removal import (
    features_in_step,
    fill_values,
    patch_labels,
    patch_side,
    patch_sums,
    pearson,
    pixel_order,
)

Fill = Literal["mean", "blur"]


def random_subsets(n: int, features: int, size: int, runs: int, seed: int) -> np.ndarray:
    """Draw random subsets of features in the order of quantus.FaithfulnessCorrelation, (N, runs, size)."""
    rng = np.random.RandomState(seed % 2**32)
    subsets = np.empty((n, runs, size), np.int32)
    for start in range(0, n, BATCH_SIZE):
        for run in range(runs):
            for row in range(start, min(n, start + BATCH_SIZE)):
                subsets[row, run] = rng.choice(features, size, replace=False)
    return subsets


@metrics.register("faithfulness_correlation")
class FaithfulnessCorrelation(Metric):
    """Correlation of the map with the logit's drop, over random subsets.

    It is Pearson's correlation of the map's sum over each subset of features with the drop of the target's logit.
    Subsets are drawn from C*H*W features, each with the value of its pixel, and are the same for every explainer of a
    shard. NaN for an image whose logit no subset changes. With 100 runs the value of one image is noisy.
    Source: Bhatt, Weller and Moura 2020; quantus.FaithfulnessCorrelation.

    Fields:
        runs: number of subsets per image.
        subset_share: share of the features in each subset.
        fill: values of removed features, see `removal.fill_values`.
    """

    title: ClassVar[str] = "Faithfulness correlation"
    needs_model: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("faithfulness_correlation", "Faithfulness correlation", "higher", -1.0, 1.0),
    )

    runs: int = Field(default=100, ge=2)
    subset_share: float = Field(default=0.10, gt=0.0, lt=1.0)
    fill: Fill = "mean"

    def _size(self, batch: Batch) -> int:
        return max(1, round(self.subset_share * prod(batch.images.shape[1:])))

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        passes = passes_of(batch)
        cache_key = ("subsets", self.runs, self.subset_share, batch.seed)
        masks = passes.cached(cache_key, lambda: self._masks(batch))
        height, width = batch.images.shape[-2:]

        def keep(rows: slice, runs: slice) -> Tensor:
            bits = np.unpackbits(~masks[rows, runs], axis=-1, count=prod(batch.images.shape[1:]))
            shape = (*bits.shape[:2], batch.images.shape[1], height, width)
            return torch.from_numpy(bits.reshape(shape)).to(passes.device).permute(0, 1, 3, 4, 2).float().contiguous()

        outputs = passes.run_masked((*cache_key, self.fill), self.runs, keep, self.fill)
        drops = passes.run_clean().logits - outputs.logits
        return {"faithfulness_correlation": pearson(self._sums(batch, masks), drops)}

    def _masks(self, batch: Batch) -> np.ndarray:
        """Draw the subsets as masks of features.

        They are packed eight to a byte, (N, runs, ceil(C*H*W / 8)).
        """
        n, features = len(batch.images), prod(batch.images.shape[1:])
        subsets = random_subsets(n, features, self._size(batch), self.runs, batch.seed)
        masks = np.empty((n, self.runs, -(-features // 8)), np.uint8)
        for row in range(n):
            bits = np.zeros((self.runs, features), bool)
            np.put_along_axis(bits, subsets[row], True, axis=1)
            masks[row] = np.packbits(bits, axis=1)
        return masks

    @staticmethod
    def _sums(batch: Batch, masks: np.ndarray) -> np.ndarray:
        """Sum each map over each subset, (N, runs)."""
        values = subtract_minimum(batch.maps)
        channels = batch.images.shape[1]
        sums = np.empty(masks.shape[:2])
        for row, value in enumerate(values):
            bits = np.unpackbits(masks[row], axis=-1, count=value.size * channels).astype(np.float32)
            # Single precision is enough: its error is far below the fifth digit of the correlation.
            sums[row] = bits @ np.tile(value.ravel(), channels).astype(np.float32)
        return sums

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        values = evaluate(
            "FaithfulnessCorrelation",
            batch,
            subtract_minimum(batch.maps),
            nr_runs=self.runs,
            subset_size=self._size(batch),
            **replace_by(fill_values(batch.images, self.fill)),
        )
        return {"faithfulness_correlation": values}


@metrics.register("faithfulness_estimate")
class FaithfulnessEstimate(Metric):
    """Correlation of the map with the logit's drop, over ordered groups.

    It is Pearson's correlation of the map's sum over each group of pixels, in the map's order, with the drop of the
    target's logit.

    Source: Alvarez-Melis and Jaakkola 2018; quantus.FaithfulnessEstimate.

    Fields:
        steps: approximate number of groups, see `removal.features_in_step`.
        fill: values of removed pixels, see `removal.fill_values`.
    """

    title: ClassVar[str] = "Faithfulness estimate"
    needs_model: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("faithfulness_estimate", "Faithfulness estimate", "higher", -1.0, 1.0),
    )

    steps: int = Field(default=24, ge=2)
    fill: Fill = "mean"

    def _order(self, batch: Batch) -> tuple[np.ndarray, int, int]:
        step = features_in_step(batch.images.shape[1:], self.steps)
        return pixel_order(batch.maps), step, prod(batch.images.shape[1:]) // step

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        order, step, count = self._order(batch)
        passes, channels = passes_of(batch), batch.images.shape[1]
        drops = passes.run_clean().logits - passes.run_single_removals(order, count, self.fill, step=step).logits
        descending = np.repeat(
            -np.sort(-subtract_minimum(batch.maps).reshape(len(order), -1), axis=1), channels, axis=1
        )
        return {"faithfulness_estimate": pearson(descending.reshape(len(order), count, step).sum(2), drops)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        step = self._order(batch)[1]
        channels, largest = batch.images.shape[1], np.finfo(np.float64).eps
        # The channels of a pixel differ by less than any two pixels, so they are removed in the order of their number.
        maps = subtract_minimum(batch.maps)
        nudged = maps + largest * np.arange(channels)[::-1, None, None] * np.ptp(maps, axis=(1, 2, 3), keepdims=True)
        values = evaluate(
            "FaithfulnessEstimate",
            batch,
            nudged,
            features_in_step=step,
            **replace_by(fill_values(batch.images, self.fill)),
        )
        return {"faithfulness_estimate": values}


class SinglePatchRemoval(Metric):
    """Base class of metrics that remove one square patch at a time.

    Fields:
        patches_per_side: approximate number of patches along the shorter side, see `removal.patch_side`.
        fill: values of removed pixels, see `removal.fill_values`.
    """

    needs_model: ClassVar[bool] = True

    patches_per_side: int = Field(default=8, ge=2)
    fill: Fill = "mean"

    def _side(self, batch: Batch) -> int:
        return patch_side(batch.images.shape[1:], self.patches_per_side)

    def drops(self, batch: Batch) -> np.ndarray:
        """Compute the logit's drop for each removed patch, (N, patches)."""
        height, width = batch.images.shape[-2:]
        side = self._side(batch)
        passes = passes_of(batch)
        count = (height // side) * (width // side)
        outputs = passes.run_single_removals(patch_labels(height, width, side), count, self.fill)
        return passes.run_clean().logits - outputs.logits


@metrics.register("single_deletion")
class SingleDeletion(SinglePatchRemoval):
    """Rank correlation of the map with the logit's drop, over patches.

    It is Spearman's correlation of the map's sum over each patch with the drop of the target's logit when that patch
    alone is removed.

    Source: Hesse, Schaub-Meyer and Roth 2024 (IDSDS), without their fine-tuning on removed patches, so it must not be
    compared between networks. Quantus has no such metric.
    """

    title: ClassVar[str] = "Single deletion"
    scores: ClassVar[tuple[Score, ...]] = (Score("single_deletion", "Single deletion", "higher", -1.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        sums, drops = patch_sums(batch.maps, self._side(batch)), self.drops(batch)
        return {"single_deletion": pearson(stats.rankdata(sums, axis=1), stats.rankdata(drops, axis=1))}


@metrics.register("infidelity")
class Infidelity(SinglePatchRemoval):
    """Share of the logit's drops that the map does not explain.

    The map times the removed values is compared with the drops at its best scale, in mean square.

        1 - max(0, <u, d>)^2 / (<u, u> <d, d>),  u_t = sum over patch t of map * (x - fill),  d_t = drop of the logit

    The scale is chosen per image, since maps have no common unit. It is not below zero, since a map of the opposite
    sign is wrong. Source: Yeh et al. 2019, with patches; quantus.Infidelity with an adapter, since it removes one patch
    after the other where it should remove one at a time.
    """

    title: ClassVar[str] = "Infidelity"
    scores: ClassVar[tuple[Score, ...]] = (Score("infidelity", "Infidelity", "lower", 0.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        removed_values = batch.maps * (batch.images - fill_values(batch.images, self.fill))
        sums = patch_sums(removed_values.sum(1, keepdims=True), self._side(batch))
        return {"infidelity": residual_share(self.drops(batch), sums)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        fill, flat = fill_values(batch.images, self.fill), batch.images.reshape(len(batch.images), -1)

        def remove_alone(arr: np.ndarray, indices: np.ndarray, **_: object) -> np.ndarray:
            features = np.broadcast_to(np.asarray(indices).reshape(1, -1), (len(arr), np.asarray(indices).size))
            changed = flat.copy()
            np.put_along_axis(changed, features, np.take_along_axis(fill.reshape(flat.shape), features, 1), 1)
            return changed

        values = evaluate(
            "Infidelity",
            batch,
            batch.maps,
            batch_size=len(flat),
            perturb_patch_sizes=[self._side(batch)],
            n_perturb_samples=1,
            perturb_func=remove_alone,
            loss_func=lambda a, b, **_: residual_share(a, b),
        )
        return {"infidelity": values}


def residual_share(drops: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Compute the share of drops that a multiple of the sums leaves.

    The multiple is the best one >= 0. Both arrays are (N, T).

    Returns:
        (N,) in [0, 1]; NaN if all drops of an image are zero.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (sums * drops).sum(1) / np.sqrt((sums * sums).sum(1) * (drops * drops).sum(1))
    return 1 - np.maximum(cosine, 0) ** 2

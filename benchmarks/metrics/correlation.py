"""Does the sum of the map over what is removed follow the drop of the target's logit?

One removal at a time, each from the whole image: of random subsets (faithfulness correlation), of square patches
(single deletion, infidelity), of groups of pixels in the map's order (faithfulness estimate). Subsets and patches do
not depend on the map, so their forward passes serve all explainers of the same images.

Known limits: removal without retraining is out of distribution; random subsets of scattered pixels look like noise to a
network and their logits say little of what it looks at, so faithfulness correlation is low and noisy for everything.
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
    """Features in each random subset, (N, runs, size), drawn as quantus.FaithfulnessCorrelation draws them."""
    draw = np.random.RandomState(seed % 2**32)
    chosen = np.empty((n, runs, size), np.int32)
    for start in range(0, n, BATCH_SIZE):
        for run in range(runs):
            for row in range(start, min(n, start + BATCH_SIZE)):
                chosen[row, run] = draw.choice(features, size, replace=False)
    return chosen


@metrics.register("faithfulness_correlation")
class FaithfulnessCorrelation(Metric):
    """Pearson correlation, over random subsets of features, of the map's sum with the drop of the target's logit.

    Subsets are drawn from C*H*W features, each with the value of its pixel; the same for every explainer of a shard.
    NaN for an image whose logit no subset moves. With 100 runs one image's value is noisy.
    Source: Bhatt, Weller and Moura 2020; quantus.FaithfulnessCorrelation.

    Fields:
        runs: number of subsets per image.
        subset_share: share of the features in each subset.
        fill: what features are replaced by, see `removal.filled`.
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
        masks = passes.kept(("subsets", self.runs, self.subset_share, batch.seed), lambda: self._masks(batch))
        height, width = batch.images.shape[-2:]

        def kept(rows: slice, runs: slice) -> Tensor:
            part = np.unpackbits(~masks[rows, runs], axis=-1, count=prod(batch.images.shape[1:]))
            shape = (*part.shape[:2], batch.images.shape[1], height, width)
            return torch.from_numpy(part.reshape(shape)).to(passes.device).permute(0, 1, 3, 4, 2).float().contiguous()

        known = ("subsets", self.runs, self.subset_share, batch.seed, self.fill)
        drops = passes.clean().logits - passes.replaced(known, self.runs, kept, self.fill).logits
        return {"faithfulness_correlation": pearson(self._sums(batch, masks), drops)}

    def _masks(self, batch: Batch) -> np.ndarray:
        """Which features are in which subset, eight to a byte, (N, runs, ceil(C*H*W / 8))."""
        n, features = len(batch.images), prod(batch.images.shape[1:])
        chosen = random_subsets(n, features, self._size(batch), self.runs, batch.seed)
        packed = np.empty((n, self.runs, -(-features // 8)), np.uint8)
        for row in range(n):
            bits = np.zeros((self.runs, features), bool)
            np.put_along_axis(bits, chosen[row], True, axis=1)
            packed[row] = np.packbits(bits, axis=1)
        return packed

    @staticmethod
    def _sums(batch: Batch, masks: np.ndarray) -> np.ndarray:
        """Sum of each map over each subset, (N, runs)."""
        values = subtract_minimum(batch.maps)
        channels = batch.images.shape[1]
        sums = np.empty(masks.shape[:2])
        for row, value in enumerate(values):
            bits = np.unpackbits(masks[row], axis=-1, count=value.size * channels).astype(np.float32)
            # Single precision of sums a hundredth of which would not change a correlation's fifth digit.
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
    """Pearson correlation, over groups of pixels in the map's order, of the map's sum with the drop of the logit.

    Source: Alvarez-Melis and Jaakkola 2018; quantus.FaithfulnessEstimate.

    Fields:
        steps: wanted number of groups; see `removal.features_in_step`.
        fill: what pixels are replaced by, see `removal.filled`.
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
        drops = passes.clean().logits - passes.without_each(order, count, self.fill, step=step).logits
        descending = np.repeat(
            -np.sort(-subtract_minimum(batch.maps).reshape(len(order), -1), axis=1), channels, axis=1
        )
        return {"faithfulness_estimate": pearson(descending.reshape(len(order), count, step).sum(2), drops)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        step = self._order(batch)[1]
        channels, largest = batch.images.shape[1], np.finfo(np.float64).eps
        # Channels of a pixel differ by less than any two pixels do, so that they go in the order of their number.
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
    """What the metrics share that remove one square patch at a time from the whole image.

    Fields:
        patches_per_side: wanted number of patches along the shorter side; see `removal.patch_side`.
        fill: what patches are replaced by, see `removal.filled`.
    """

    needs_model: ClassVar[bool] = True

    patches_per_side: int = Field(default=8, ge=2)
    fill: Fill = "mean"

    def _side(self, batch: Batch) -> int:
        return patch_side(batch.images.shape[1:], self.patches_per_side)

    def drops(self, batch: Batch) -> np.ndarray:
        """Drop of the target's logit for each patch removed alone, (N, patches)."""
        height, width = batch.images.shape[-2:]
        side = self._side(batch)
        passes = passes_of(batch)
        count = (height // side) * (width // side)
        alone = passes.without_each(patch_labels(height, width, side), count, self.fill)
        return passes.clean().logits - alone.logits


@metrics.register("single_deletion")
class SingleDeletion(SinglePatchRemoval):
    """Spearman correlation of the map's sum over each patch with the drop of the logit when that patch alone goes.

    Source: Hesse, Schaub-Meyer and Roth 2024 (IDSDS), without their fine-tuning on removed patches, so between networks
    it must not be compared. Quantus has no such metric.
    """

    title: ClassVar[str] = "Single deletion"
    scores: ClassVar[tuple[Score, ...]] = (Score("single_deletion", "Single deletion", "higher", -1.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        sums, drops = patch_sums(batch.maps, self._side(batch)), self.drops(batch)
        return {"single_deletion": pearson(stats.rankdata(sums, axis=1), stats.rankdata(drops, axis=1))}


@metrics.register("infidelity")
class Infidelity(SinglePatchRemoval):
    """Share of the drops' mean square that the map, times what was taken away, leaves unexplained at its best scale.

        1 - max(0, <u, d>)^2 / (<u, u> <d, d>),  u_t = sum over patch t of map * (x - fill),  d_t = drop of the logit

    The scale is chosen per image, since maps have no common unit, and not below zero, since a map that points the other
    way is wrong. Source: Yeh et al. 2019, with patches; quantus.Infidelity with an adapter: it removes one patch after
    the other where it should remove one at a time.
    """

    title: ClassVar[str] = "Infidelity"
    scores: ClassVar[tuple[Score, ...]] = (Score("infidelity", "Infidelity", "lower", 0.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        taken = batch.maps * (batch.images - fill_values(batch.images, self.fill))
        sums = patch_sums(taken.sum(1, keepdims=True), self._side(batch))
        return {"infidelity": residual_share(self.drops(batch), sums)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        fill, flat = fill_values(batch.images, self.fill), batch.images.reshape(len(batch.images), -1)

        def alone(arr: np.ndarray, indices: np.ndarray, **_: object) -> np.ndarray:
            places = np.broadcast_to(np.asarray(indices).reshape(1, -1), (len(arr), np.asarray(indices).size))
            changed = flat.copy()
            np.put_along_axis(changed, places, np.take_along_axis(fill.reshape(flat.shape), places, 1), 1)
            return changed

        values = evaluate(
            "Infidelity",
            batch,
            batch.maps,
            batch_size=len(flat),
            perturb_patch_sizes=[self._side(batch)],
            n_perturb_samples=1,
            perturb_func=alone,
            loss_func=lambda a, b, **_: residual_share(a, b),
        )
        return {"infidelity": values}


def residual_share(drops: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Share of `drops` (N, T) that no multiple >= 0 of `sums` (N, T) explains, (N,) in [0, 1]; NaN without drops."""
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (sums * drops).sum(1) / np.sqrt((sums * sums).sum(1) * (drops * drops).sum(1))
    return 1 - np.maximum(cosine, 0) ** 2

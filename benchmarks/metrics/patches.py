"""Region perturbation, selectivity and IROF: does the output follow the map when whole patches are removed?

Square patches suit maps of a coarse grid; superpixels suit objects. Patches are removed in both orders, most relevant
first (MoRF) and least relevant first (LeRF). Selectivity shares the sweep of region perturbation.

Known limits: removal without retraining is out of distribution, and the network sees the edges of removed patches.
Superpixels are cut by colour, which favours methods that use superpixels themselves (LIME).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Metric, Score, metrics, passes_of
from benchmarks.metrics.map_ranks import subtract_minimum
from benchmarks.metrics.quantus_adapter import evaluate, replace_by, replace_in_quantus, replace_masked_by
from benchmarks.metrics.removal import fill_values, group_order, patch_labels, patch_side, patch_sums

Fill = Literal["mean", "blur"]


class PatchSweep(Metric):
    """Base class of metrics that remove square patches in the order of the map.

    Fields:
        patches_per_side: approximate number of patches along the shorter side, see `removal.patch_side`.
        fill: values of removed pixels, see `removal.fill_values`.
    """

    needs_model: ClassVar[bool] = True

    patches_per_side: int = Field(default=8, ge=2)
    fill: Fill = "mean"

    def probabilities(self, batch: Batch, *, least_first: bool = False) -> np.ndarray:
        """Compute the target's probabilities (N, patches + 1), from no to all patches removed."""
        shape = batch.images.shape[1:]
        side = patch_side(shape, self.patches_per_side)
        sums, labels = patch_sums(batch.maps, side), patch_labels(shape[1], shape[2], side)
        order = group_order(sums, labels, least_first=least_first)
        return passes_of(batch).run_removals(order, range(sums.shape[1] + 1), self.fill).probabilities


@metrics.register("region_perturbation")
class RegionPerturbation(PatchSweep):
    """Mean drop of the target's probability while patches are removed.

    Square patches are removed in the order of the map's sums over them.

        drop = mean over l = 1..L of p(nothing removed) - p(l patches removed)

    `region_perturbation` = MoRF drop - LeRF drop. Quantus declares the drop "lower is better", which holds for LeRF
    only. Source: Samek et al. 2017; quantus.RegionPerturbation.
    """

    title: ClassVar[str] = "Region perturbation"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("region_perturbation_morf", "Region perturbation, MoRF drop", "higher", -1.0, 1.0, ranked=False),
        Score("region_perturbation_lerf", "Region perturbation, LeRF drop", "lower", -1.0, 1.0, ranked=False),
        Score("region_perturbation", "Region perturbation, MoRF - LeRF", "higher", -1.0, 1.0),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        curves = self.probabilities(batch), self.probabilities(batch, least_first=True)
        return self._by_name(*((curve[:, :1] - curve[:, 1:]).mean(1) for curve in curves))

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        return self._by_name(*(self.reference_drops(batch, order).mean(1) for order in ("morf", "lerf")))

    def reference_drops(self, batch: Batch, order: str) -> np.ndarray:
        """Compute the drops of probability (N, patches) by Quantus."""
        height, width = batch.images.shape[-2:]
        side = patch_side(batch.images.shape[1:], self.patches_per_side)
        return evaluate(
            "RegionPerturbation",
            batch,
            batch.maps,
            probabilities=True,
            patch_size=side,
            order=order,
            regions_evaluation=(height // side) * (width // side),
            **replace_by(fill_values(batch.images, self.fill)),
        )

    @staticmethod
    def _by_name(morf: np.ndarray, lerf: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "region_perturbation_morf": morf,
            "region_perturbation_lerf": lerf,
            "region_perturbation": morf - lerf,
        }


@metrics.register("selectivity")
class Selectivity(PatchSweep):
    """Mean probability of the target while square patches are removed, most relevant first.

    It is the unperturbed probability less region perturbation's MoRF drop, from the same sweep, so it is not ranked.
    Source: Montavon, Samek and Müller 2018; quantus.Selectivity.
    """

    title: ClassVar[str] = "Selectivity"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("selectivity", "Selectivity, mean probability", "lower", 0.0, 1.0, ranked=False),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"selectivity": self.probabilities(batch)[:, 1:].mean(1)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        side = patch_side(batch.images.shape[1:], self.patches_per_side)
        curves = evaluate(
            "Selectivity",
            batch,
            batch.maps,
            probabilities=True,
            patch_size=side,
            **replace_by(fill_values(batch.images, self.fill)),
        )
        return {"selectivity": curves.mean(1)}


def superpixels(images: np.ndarray) -> np.ndarray:
    """Return the superpixel of each pixel, (N, 1, H, W) int32.

    They are cut by SLIC, as in quantus.IROF.
    """
    from quantus.helpers.utils import get_superpixel_segments

    cut = partial(get_superpixel_segments, segmentation_method="slic")
    return np.stack([cut(img=image.transpose(1, 2, 0).astype(np.float64)) for image in images])[:, None].astype(
        np.int32
    )


@metrics.register("irof")
class Irof(Metric):
    """Mean relative loss of the probability while superpixels are removed.

    Superpixels are removed in the order of the map's means over them.

        loss = mean over l = 1..L of 1 - p(l superpixels removed) / p(nothing removed)

    `irof` = MoRF loss - LeRF loss. Quantus does not run on colour images, leaves out the division by L, and adds half a
    step to an image with fewer superpixels than another of its batch, so the reference runs image by image.
    Source: Rieger and Hansen 2020; quantus.IROF with an adapter.

    Fields:
        fill: values of removed pixels, see `removal.fill_values`.
    """

    title: ClassVar[str] = "IROF"
    needs_model: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("irof_morf", "IROF, MoRF loss", "higher", -np.inf, 1.0, ranked=False),
        Score("irof_lerf", "IROF, LeRF loss", "lower", -np.inf, 1.0, ranked=False),
        Score("irof", "IROF, MoRF - LeRF", "higher", -np.inf, np.inf),
    )

    fill: Fill = "mean"

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        labels = superpixels(batch.images)
        return self._by_name(*(self._losses(batch, labels, least_first) for least_first in (False, True)))

    def _losses(self, batch: Batch, labels: np.ndarray, least_first: bool) -> np.ndarray:
        counts = labels.reshape(len(labels), -1).max(1) + 1
        order = group_order(segment_means(batch.maps, labels, least_first), labels, least_first=least_first)
        curves = passes_of(batch).run_removals(order, range(int(counts.max()) + 1), self.fill).probabilities
        losses = 1 - curves[:, 1:] / curves[:, :1]
        has_superpixel = np.arange(losses.shape[1]) < counts[:, None]
        return np.where(has_superpixel, losses, 0).sum(1) / counts

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        counts = superpixels(batch.images).reshape(len(batch.images), -1).max(1) + 1
        # IROF subtracts the area from the number of superpixels. With a sum for the area, it returns the sum of losses.
        with replace_in_quantus("helpers.utils", "calculate_auc", lambda values, **_: np.asarray(values).sum(1)):
            # Quantus refuses maps without positive values.
            losses = [
                self._reference_losses(batch, subtract_minimum(maps)) / counts for maps in (batch.maps, -batch.maps)
            ]
        return self._by_name(*losses)

    def _reference_losses(self, batch: Batch, maps: np.ndarray) -> np.ndarray:
        fill = fill_values(batch.images, self.fill)
        options: dict[str, Any] = {"probabilities": True, "segmentation_method": "slic"}
        losses = [
            evaluate("IROF", single_image(batch, i), maps[i : i + 1], **options, **replace_masked_by(fill[i : i + 1]))
            for i in range(len(maps))
        ]
        return np.concatenate(losses)

    @staticmethod
    def _by_name(morf: np.ndarray, lerf: np.ndarray) -> dict[str, np.ndarray]:
        return {"irof_morf": morf, "irof_lerf": lerf, "irof": morf - lerf}


def single_image(batch: Batch, index: int) -> Batch:
    """Return a batch of one image, without shared forward passes."""
    row = slice(index, index + 1)
    return replace(
        batch,
        images=batch.images[row],
        targets=batch.targets[row],
        maps=batch.maps[row],
        masks=None if batch.masks is None else batch.masks[row],
        passes=None,
    )


def segment_means(maps: np.ndarray, labels: np.ndarray, least_first: bool) -> np.ndarray:
    """Average each map over each of its superpixels.

    Args:
        maps: (N, 1, H, W).
        labels: (N, 1, H, W), superpixel of each pixel.
        least_first: whether the lowest mean is removed first.

    Returns:
        (N, superpixels); where an image has fewer, the values come last in the order of removal.
    """
    superpixels = int(labels.max()) + 1
    means = np.full((len(maps), superpixels), np.inf if least_first else -np.inf)
    for row, (values, numbers) in enumerate(
        zip(maps.reshape(len(maps), -1), labels.reshape(len(labels), -1), strict=True)
    ):
        sizes = np.bincount(numbers)
        means[row, : len(sizes)] = np.bincount(numbers, weights=values) / sizes
    return means

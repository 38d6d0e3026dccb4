"""Localisation: does the map lie on the evidence mask?

Metrics that use the values of a map (mass accuracy, pointing game) use its positive part, since negative values speak
against the target. Metrics that use the order of pixels (rank accuracy, AUC, top-k) use the signed order: clipping
would tie all negative and zero pixels, and the random order of ties would be worse than the order of the map.

Known limits: they measure agreement with a mask, not with the network. A network that looks elsewhere fails them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.map_ranks import positive_part, ranks, remove_jitter
from benchmarks.metrics.quantus_adapter import evaluate
from benchmarks.metrics.removal import pixel_order
from interp_core.errors import ContractError


def masks_of(batch: Batch) -> np.ndarray:
    """Return the evidence masks (N, 1, H, W) bool.

    Raises:
        ContractError: they are missing, do not fit the maps, or have other values than 0 and 1.
    """
    if batch.masks is None or batch.masks.shape != batch.maps.shape:
        shape = None if batch.masks is None else batch.masks.shape
        raise ContractError(f"evidence masks must be {batch.maps.shape}, got {shape}")
    if not np.isin(batch.masks, (0, 1)).all():
        raise ContractError("evidence masks must be bool, or 0 and 1")
    return batch.masks.astype(bool)


def score_rows(name: str, batch: Batch, maps: np.ndarray, rows: np.ndarray, **parameters: Any) -> np.ndarray:
    """Score some images by a localisation metric of Quantus.

    Args:
        name: class in `quantus`.
        batch: images with masks.
        maps: (N, 1, H, W), in place of the batch's.
        rows: (N,) bool, the images to score.
        parameters: arguments of the metric's constructor.

    Returns:
        (N,); NaN for the images that are not scored.
    """
    values = np.full(len(rows), np.nan)
    if rows.any():
        masks = masks_of(batch)[rows]
        subset = replace(batch, images=batch.images[rows], targets=batch.targets[rows], maps=maps[rows], masks=masks)
        values[rows] = evaluate(name, subset, subset.maps, with_model=False, **parameters)
    return values


def flatten_pixels(arrays: np.ndarray) -> np.ndarray:
    """Reshape (N, 1, H, W) to (N, H*W)."""
    return arrays.reshape(len(arrays), -1)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide (N,) by (N,), NaN where the denominator is not positive."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _has_pixels(arrays: np.ndarray) -> np.ndarray:
    """Return which images (N,) have any pixel other than zero."""
    return np.asarray(arrays.reshape(len(arrays), -1).any(1))


class Localisation(Metric):
    """Base class of metrics that compare a map with a mask, without the network."""

    family: ClassVar[Family] = "localisation"
    needs_masks: ClassVar[bool] = True


@metrics.register("relevance_mass_accuracy")
class RelevanceMassAccuracy(Localisation):
    """Share of the positive part of the map inside the mask.

    It is 0 for a map without positive part.

    Source: Arras, Osman and Samek 2020 (CLEVR-XAI); quantus.RelevanceMassAccuracy.
    """

    title: ClassVar[str] = "Mass accuracy"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("relevance_mass_accuracy", "Mass accuracy", "higher", 0.0, 1.0, degenerate=0.0),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        masks, positive = flatten_pixels(masks_of(batch)), flatten_pixels(positive_part(batch.maps))
        total = positive.sum(1)
        shares = np.divide((positive * masks).sum(1), total, out=np.zeros(len(total)), where=total > 0)
        return {"relevance_mass_accuracy": np.where(masks.any(1), shares, np.nan)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        has_mask, positive = _has_pixels(masks_of(batch)), positive_part(batch.maps)
        has_positive = _has_pixels(positive)
        values = score_rows("RelevanceMassAccuracy", batch, positive, has_mask & has_positive)
        values[has_mask & ~has_positive] = 0.0
        return {"relevance_mass_accuracy": values}


@metrics.register("relevance_rank_accuracy")
class RelevanceRankAccuracy(Localisation):
    """Share of the mask's k pixels among the map's k highest.

    A random order gives the mask's share of the image.

    Source: Arras, Osman and Samek 2020 (CLEVR-XAI); quantus.RelevanceRankAccuracy.
    """

    title: ClassVar[str] = "Rank accuracy"
    scores: ClassVar[tuple[Score, ...]] = (Score("relevance_rank_accuracy", "Rank accuracy", "higher", 0.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        masks, order = flatten_pixels(masks_of(batch)), flatten_pixels(pixel_order(batch.maps))
        sizes = masks.sum(1)
        return {"relevance_rank_accuracy": ratio((masks & (order < sizes[:, None])).sum(1), sizes)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        has_mask = _has_pixels(masks_of(batch))
        return {"relevance_rank_accuracy": score_rows("RelevanceRankAccuracy", batch, ranks(batch.maps), has_mask)}


@metrics.register("pointing_game")
class PointingGame(Localisation):
    """1 if the highest pixel lies in the mask, else 0.

    It is 0 for a map without positive part. Quantus counts every pixel that equals the highest, and counts an empty
    mask as a hit. Ranks have one highest pixel, and images without a mask have no score.
    Source: Zhang et al. 2018; quantus.PointingGame.
    """

    title: ClassVar[str] = "Pointing game"
    scores: ClassVar[tuple[Score, ...]] = (Score("pointing_game", "Pointing game", "higher", 0.0, 1.0, degenerate=0.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        masks, highest = flatten_pixels(masks_of(batch)), flatten_pixels(batch.maps).argmax(1)
        hits = masks[np.arange(len(masks)), highest] & _has_pixels(positive_part(batch.maps))
        return {"pointing_game": np.where(masks.any(1), hits, np.nan)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        has_mask = _has_pixels(masks_of(batch))
        values = score_rows("PointingGame", batch, ranks(batch.maps), has_mask)
        values[has_mask & ~_has_pixels(positive_part(batch.maps))] = 0.0
        return {"pointing_game": values}


@metrics.register("auc")
class AUC(Localisation):
    """Area under the ROC curve of the map as a detector.

    It detects the pixels of the mask. A random order gives 0.5. A mask that covers the whole image gives NaN.

    Source: Fawcett 2006; quantus.AUC.
    """

    title: ClassVar[str] = "Pixel AUC"
    scores: ClassVar[tuple[Score, ...]] = (Score("auc", "Pixel AUC", "higher", 0.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        masks, order = flatten_pixels(masks_of(batch)), flatten_pixels(pixel_order(batch.maps, least_first=True))
        inside = masks.sum(1)
        outside = masks.shape[1] - inside
        # Mann and Whitney: pairs of a pixel inside and a pixel outside of which the first is higher.
        above = (order * masks).sum(1, dtype=np.int64) - inside * (inside - 1) // 2
        return {"auc": ratio(above, inside * outside)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        masks = masks_of(batch)
        return {"auc": score_rows("AUC", batch, ranks(batch.maps), _has_pixels(masks) & _has_pixels(~masks))}


@metrics.register("top_k_intersection")
class TopKIntersection(Localisation):
    """Share of the k highest pixels that lie in the mask.

    k is a share of the mask's own pixels. With k as many as the mask's pixels it is rank accuracy, with k = 1 the
    pointing game, so it is not ranked. Quantus takes one k for all images (1000), which is more than most masks have,
    so the reference runs image by image.
    Source: Theiner, Müller-Budack and Ewerth 2022; quantus.TopKIntersection.

    Fields:
        share: k as a share of the mask's pixels, at least one.
    """

    title: ClassVar[str] = "Top-k intersection"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("top_k_intersection", "Top-k intersection", "higher", 0.0, 1.0, ranked=False),
    )

    share: float = Field(default=0.25, gt=0.0, le=1.0)

    def _k(self, masks: np.ndarray) -> np.ndarray:
        return np.maximum(1, np.floor(self.share * flatten_pixels(masks).sum(1) + 0.5)).astype(int)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        masks, order = flatten_pixels(masks_of(batch)), flatten_pixels(pixel_order(batch.maps))
        k = self._k(masks)
        shares = (masks & (order < k[:, None])).sum(1) / k
        return {"top_k_intersection": np.where(masks.any(1), shares, np.nan)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        masks, maps, values = masks_of(batch), ranks(batch.maps), np.full(len(batch.maps), np.nan)
        for index, k in enumerate(self._k(masks)):
            row = (np.arange(len(maps)) == index) & _has_pixels(masks)
            values[row] = score_rows("TopKIntersection", batch, maps, row, k=int(k))[row]
        return {"top_k_intersection": values}


@metrics.register("attribution_localisation")
class AttributionLocalisation(Localisation):
    """Share of the map's magnitude inside the mask.

    It also counts negative values. For maps without any it is mass accuracy, so it is not ranked. Quantus' weighted
    form depends on the number of images in the batch and is not used.
    Source: Kohlbrenner et al. 2020; quantus.AttributionLocalisation.
    """

    title: ClassVar[str] = "Attribution localisation"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("attribution_localisation", "Magnitude in mask", "higher", 0.0, 1.0, ranked=False, degenerate=0.0),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        masks, size = flatten_pixels(masks_of(batch)), np.abs(flatten_pixels(remove_jitter(batch.maps)))
        return {"attribution_localisation": np.where(masks.any(1), ratio((size * masks).sum(1), size.sum(1)), np.nan)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        # Quantus adds 1e-9 to the total, so the map must not be small.
        maps = remove_jitter(batch.maps)
        maps = maps / np.abs(maps).max(axis=(1, 2, 3), keepdims=True)
        return {
            "attribution_localisation": score_rows(
                "AttributionLocalisation", batch, maps, _has_pixels(masks_of(batch)), absolute=True
            )
        }

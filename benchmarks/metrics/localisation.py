"""Localisation: does the map lie on the evidence? Four classes of Quantus, with the sign of a map decided once.

Two read how much a map says (mass accuracy, pointing game) and see its positive part: evidence against the target is
no evidence for it. Two read only the order of pixels (rank accuracy, AUC) and see the signed order: clipping would
throw all negative and zero pixels into one tie, whose random order is worse than what the map says.

Known limits: they measure agreement with a mask, not with the network, and a network that looks elsewhere fails them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.maps import positive_part, ranks
from benchmarks.metrics.quantus_adapter import evaluate
from interp_core.errors import ContractError


def masks_of(batch: Batch) -> np.ndarray:
    """Evidence masks (N, 1, H, W) bool.

    Raises:
        ContractError: they are missing, do not fit the maps, or hold other values than 0 and 1.
    """
    if batch.masks is None or batch.masks.shape != batch.maps.shape:
        got = None if batch.masks is None else batch.masks.shape
        raise ContractError(f"evidence masks must be {batch.maps.shape}, got {got}")
    if not np.isin(batch.masks, (0, 1)).all():
        raise ContractError("evidence masks must be bool, or 0 and 1")
    return batch.masks.astype(bool)


def score_rows(name: str, batch: Batch, maps: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scores (N,) of a Quantus localisation metric for the chosen `rows` (N,) bool; NaN for the others."""
    values = np.full(len(rows), np.nan)
    if rows.any():
        masks = masks_of(batch)[rows]
        part = replace(batch, images=batch.images[rows], targets=batch.targets[rows], maps=maps[rows], masks=masks)
        values[rows] = evaluate(name, part, part.maps, with_model=False)
    return values


def _any(arrays: np.ndarray) -> np.ndarray:
    """Which images (N,) have any pixel other than zero."""
    return np.asarray(arrays.reshape(len(arrays), -1).any(1))


class Localisation(Metric):
    """What the four have in common: masks, and no network."""

    family: ClassVar[Family] = "localisation"
    needs_masks: ClassVar[bool] = True


@metrics.register("relevance_mass_accuracy")
class RelevanceMassAccuracy(Localisation):
    """Share of the positive part of the map inside the mask; 0 for a map without positive part.

    Source: Arras, Osman and Samek 2020 (CLEVR-XAI); quantus.RelevanceMassAccuracy.
    """

    title: ClassVar[str] = "Mass accuracy"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("relevance_mass_accuracy", "Mass accuracy", "higher", 0.0, 1.0, degenerate=0.0),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        marked, positive = _any(masks_of(batch)), positive_part(batch.maps)
        says = _any(positive)
        values = score_rows("RelevanceMassAccuracy", batch, positive, marked & says)
        values[marked & ~says] = 0.0
        return {"relevance_mass_accuracy": values}


@metrics.register("relevance_rank_accuracy")
class RelevanceRankAccuracy(Localisation):
    """Share of the mask's k pixels among the k highest of the map; a random order gives the mask's share of the image.

    Source: Arras, Osman and Samek 2020 (CLEVR-XAI); quantus.RelevanceRankAccuracy.
    """

    title: ClassVar[str] = "Rank accuracy"
    scores: ClassVar[tuple[Score, ...]] = (Score("relevance_rank_accuracy", "Rank accuracy", "higher", 0.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        marked = _any(masks_of(batch))
        return {"relevance_rank_accuracy": score_rows("RelevanceRankAccuracy", batch, ranks(batch.maps), marked)}


@metrics.register("pointing_game")
class PointingGame(Localisation):
    """1 if the highest pixel lies in the mask, else 0; 0 for a map without positive part.

    Quantus counts every pixel equal to the highest and calls an empty mask a hit; ranks leave one highest pixel, and
    empty masks are left out.
    Source: Zhang et al. 2018; quantus.PointingGame.
    """

    title: ClassVar[str] = "Pointing game"
    scores: ClassVar[tuple[Score, ...]] = (Score("pointing_game", "Pointing game", "higher", 0.0, 1.0, degenerate=0.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        marked = _any(masks_of(batch))
        values = score_rows("PointingGame", batch, ranks(batch.maps), marked)
        values[marked & ~_any(positive_part(batch.maps))] = 0.0
        return {"pointing_game": values}


@metrics.register("auc")
class AUC(Localisation):
    """Area under the ROC curve of the map as a detector of the mask's pixels; a random order gives 0.5.

    NaN also for a mask that covers the whole image: there is nothing to tell it from.
    Source: Fawcett 2006; quantus.AUC.
    """

    title: ClassVar[str] = "Pixel AUC"
    scores: ClassVar[tuple[Score, ...]] = (Score("auc", "Pixel AUC", "higher", 0.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        masks = masks_of(batch)
        return {"auc": score_rows("AUC", batch, ranks(batch.maps), _any(masks) & _any(~masks))}

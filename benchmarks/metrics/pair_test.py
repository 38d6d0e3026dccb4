"""The pair test: does the map show what this network uses, or what stands out in the image?

A pair is two networks of one architecture. The user decides by a cue, its twin does not; that is proven by intervention
before anything is scored (`benchmarks.run.pairs`). Both see the same image, which shows the cue, and the same class is
explained. A map of the network has more of itself on the cue in the user than in the twin. A map that shows the cue in
both is a picture of the data.

Chance level: an explainer that ignores the network has the same map in both, and exactly 0.

Known limits: a cue that covers much of the image leaves little room, since the twin's share is large already. The test
says nothing about evidence other than the cue.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Family, Metric, Score, break_ties, is_degenerate, metrics
from benchmarks.metrics.localisation import flatten_pixels, masks_of
from benchmarks.metrics.map_ranks import positive_part


@metrics.register("pair_test")
class PairTest(Metric):
    """Share of the map on a cue in a network that uses it, over that in a twin that does not.

        pair_test = log2(user + floor) - log2(twin + floor)

    `user` and `twin` are the shares of the positive part of the map inside the cue's mask. The mean over images is the
    logarithm of the geometric mean of the ratios: 0 is chance, 1 twice the share, -1 half of it. The score is 0 where
    one of the two maps is degenerate or has no positive part, since it has no share then; `pair_empty` is 1 there.

    Source: this project; compare Adebayo et al. 2022 (post hoc explanations may be ineffective for detecting unknown
    spurious correlation) and Zhou et al. 2022 (do feature attribution methods correctly attribute features?).

    Fields:
        floor: added to both shares, so that a single share near zero does not decide the mean.
    """

    title: ClassVar[str] = "Pair test"
    family: ClassVar[Family] = "faithfulness"
    needs_masks: ClassVar[bool] = True
    needs_model: ClassVar[bool] = True
    needs_explain: ClassVar[bool] = True
    needs_twin: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("pair_test", "Pair test (log2 ratio)", "higher", -float("inf"), float("inf"), degenerate=0.0),
        Score("pair_user", "On the cue, user", "higher", 0.0, 1.0, ranked=False, degenerate=0.0),
        Score("pair_twin", "On the cue, twin", "lower", 0.0, 1.0, ranked=False),
        Score("pair_empty", "Pair without a share", "lower", 0.0, 1.0, ranked=False, degenerate=1.0),
    )

    floor: float = Field(default=0.01, gt=0.0, lt=1.0)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        assert batch.explain is not None
        assert batch.twin is not None
        masks = masks_of(batch)
        twin_maps = batch.explain(batch.twin, batch.images, batch.targets).reshape(batch.maps.shape)
        # The same jitter as the maps of the user have, so that equal maps get equal shares.
        twin = share_inside(break_ties(twin_maps, batch.seed), masks)
        twin[is_degenerate(twin_maps)] = np.nan
        user = share_inside(batch.maps, masks)
        is_empty = np.isnan(user) | np.isnan(twin)
        user, twin = np.nan_to_num(user), np.nan_to_num(twin)
        values = {
            "pair_test": np.where(is_empty, 0.0, log_ratio(user, twin, self.floor)),
            "pair_user": user,
            "pair_twin": twin,
            "pair_empty": is_empty.astype(np.float64),
        }
        has_cue = masks.any((1, 2, 3))
        return {name: np.where(has_cue, column, np.nan) for name, column in values.items()}


def share_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share (N,) of the positive part of maps (N, 1, H, W) inside masks; NaN for a map without any."""
    positive = flatten_pixels(positive_part(maps))
    total = positive.sum(1)
    inside = (positive * flatten_pixels(masks)).sum(1)
    return np.divide(inside, total, out=np.full(len(total), np.nan), where=total > 0)


def log_ratio(user: np.ndarray, twin: np.ndarray, floor: float) -> np.ndarray:
    """Return log2 of the ratio of shares (N,), with a floor added to both."""
    ratios: np.ndarray = np.log2(user + floor) - np.log2(twin + floor)
    return ratios

"""MaxBoxAcc: does the box around the map's strongest region meet the box of the evidence?

A map is cut at a share of its range; the box around the largest connected region of what is left is held to the box
around the mask. The share is chosen for each explainer on images of its own: a shard's images are parted in two halves,
and each half is scored with the share that is best on the other. Known limits: the choice is noisy with few images in
a shard; one box an image.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy import ndimage

from benchmarks.metrics.base import Batch, Score, metrics
from benchmarks.metrics.localisation import Localisation, flatten_pixels, masks_of

Box = tuple[int, int, int, int]


@metrics.register("max_box_acc")
class MaxBoxAcc(Localisation):
    """Share of the overlaps asked for that the map's box reaches with the evidence's box.

    Source: Choe et al. 2020, in the form with several overlaps; Quantus has no such metric.

    Fields:
        thresholds: shares of the map's range at which it may be cut.
        overlaps: intersections over union that count as a hit.
    """

    title: ClassVar[str] = "Box accuracy"
    scores: ClassVar[tuple[Score, ...]] = (Score("max_box_acc", "Box accuracy", "higher", 0.0, 1.0, degenerate=0.0),)

    thresholds: tuple[float, ...] = Field(default=tuple(np.linspace(0.05, 0.95, 19).round(2).tolist()), min_length=1)
    overlaps: tuple[float, ...] = Field(default=(0.3, 0.5, 0.7), min_length=1)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        masks = masks_of(batch)[:, 0]
        hits = np.full((len(masks), len(self.thresholds)), np.nan)
        for row, (mask, values) in enumerate(zip(masks, batch.maps[:, 0], strict=True)):
            if mask.any():
                wanted = box_around(mask)
                hits[row] = [self._hits(largest_box(values, threshold), wanted) for threshold in self.thresholds]
        return {"max_box_acc": np.where(flatten_pixels(masks).any(1), cross_validate(hits), np.nan)}

    def _hits(self, found: Box, wanted: Box) -> float:
        overlap = intersection_over_union(found, wanted)
        return float(np.mean([overlap >= least for least in self.overlaps]))


def box_around(mask: np.ndarray) -> Box:
    """First row, first column, one past the last row and column of a mask (H, W) that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def largest_box(values: np.ndarray, threshold: float) -> Box:
    """Box around the largest connected region of a map (H, W) at or above a share of its range."""
    kept = values >= values.min() + threshold * np.ptp(values)
    labels, count = ndimage.label(kept)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:]))
    return box_around(labels == largest)


def intersection_over_union(a: Box, b: Box) -> float:
    """Of two boxes."""
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(height, 0) * max(width, 0)
    sizes = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (sum(sizes) - common)


def cross_validate(hits: np.ndarray) -> np.ndarray:
    """Hits (N,) of each half of the rows of `hits` (N, thresholds) at the threshold best for the other half.

    An image alone is its own other half.
    """
    half = np.arange(len(hits)) % 2 == 0
    values = np.full(len(hits), np.nan)
    for here in (half, ~half):
        there = hits[~here] if np.isfinite(hits[~here]).any() else hits[here]
        if here.any() and np.isfinite(there).any():
            values[here] = hits[here, int(np.argmax(np.nanmean(there, axis=0)))]
    return values

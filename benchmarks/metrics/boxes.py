"""MaxBoxAcc: does the box around the map's largest area meet the box around the mask?

A map is thresholded at a share of its range. The box around the largest connected component is compared with the box
around the mask. The threshold is chosen by cross-validation within a shard: each half of its images is scored with the
threshold that is best on the other half.

Known limits: the choice is noisy with few images in a shard. There is one box an image.
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
    """Share of the required overlaps that the map's box reaches with the mask's box.

    Source: Choe et al. 2020, in the form with several overlaps; Quantus has no such metric.

    Fields:
        thresholds: thresholds to choose from, as shares of the map's range.
        overlaps: required intersections over union.
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
                boxes = [largest_box(values, threshold) for threshold in self.thresholds]
                hits[row] = [self._hits(box, box_around(mask)) for box in boxes]
        return {"max_box_acc": np.where(flatten_pixels(masks).any(1), cross_validate(hits), np.nan)}

    def _hits(self, box: Box, mask_box: Box) -> float:
        overlap = intersection_over_union(box, mask_box)
        return float(np.mean([overlap >= required for required in self.overlaps]))


def box_around(mask: np.ndarray) -> Box:
    """Return the box around a mask (H, W).

    The mask must not be empty. A box is its first row and column, and one past its last row and column.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def largest_box(values: np.ndarray, threshold: float) -> Box:
    """Return the box around the largest component of a map (H, W).

    Components are connected pixels at or above `threshold`, a share of the map's range.
    """
    above = values >= values.min() + threshold * np.ptp(values)
    labels, count = ndimage.label(above)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:]))
    return box_around(labels == largest)


def intersection_over_union(a: Box, b: Box) -> float:
    """Compute the intersection over union of two boxes."""
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(height, 0) * max(width, 0)
    sizes = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (sum(sizes) - common)


def cross_validate(hits: np.ndarray) -> np.ndarray:
    """Score each half of the images at the other half's best threshold.

    Args:
        hits: (N, thresholds), the score of each image at each threshold; NaN for images without a mask.

    Returns:
        (N,). If one half has no scores, the other is scored at its own best threshold.
    """
    is_even = np.arange(len(hits)) % 2 == 0
    values = np.full(len(hits), np.nan)
    for half in (is_even, ~is_even):
        choice = hits[~half] if np.isfinite(hits[~half]).any() else hits[half]
        if half.any() and np.isfinite(choice).any():
            values[half] = hits[half, int(np.argmax(np.nanmean(choice, axis=0)))]
    return values

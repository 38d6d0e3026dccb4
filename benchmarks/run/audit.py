"""Re-scores a random sample of a run through Quantus and says how far the two engines are apart.

Both engines see the same few images and maps, with the same seed; nothing of what the run stored is used, so an error
in either shows. A metric that Quantus has not, or that Quantus fails on, is listed with the reason instead of a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.metrics import Batch, Metric
from interp_core.errors import one_line

IMAGES = 2


@dataclass(frozen=True)
class Sample:
    """Maps of one explainer, to draw from."""

    model: str
    explainer: str
    batch: Batch


def audit(
    metrics: Mapping[str, Metric], samples: Sequence[Sample], seed: int, images: int = IMAGES
) -> list[dict[str, Any]]:
    """One line per metric: an explainer and images drawn at random, and the largest difference of the engines there.

    Args:
        metrics: by name, as the run uses them.
        samples: what there is to draw from.
        seed: of the drawing.
        images: how many are scored again.

    Returns:
        metric, model, explainer, images (number), largest (None where there is nothing to hold to), score (where the
        largest difference is) and what (why there is no number, else "").
    """
    draw = np.random.default_rng(seed)
    lines = []
    for name, metric in metrics.items():
        if samples and (metric.has_reference() or metric.family != "descriptor"):
            sample = samples[int(draw.integers(len(samples)))]
            count = min(images, len(sample.batch.images))
            rows = np.sort(draw.choice(len(sample.batch.images), count, replace=False))
            found = compare_engines(metric, select_images(sample.batch, rows)) if metric.has_reference() else NONE
            lines.append(
                {"metric": name, "model": sample.model, "explainer": sample.explainer, "images": count, **found}
            )
    return lines


NONE: dict[str, Any] = {"largest": None, "score": "", "what": "Quantus has no such metric"}


def select_images(batch: Batch, rows: np.ndarray) -> Batch:
    """A batch of the chosen images alone."""
    masks = None if batch.masks is None else batch.masks[rows]
    return replace(
        batch, images=batch.images[rows], targets=batch.targets[rows], maps=batch.maps[rows], masks=masks, passes=None
    )


def compare_engines(metric: Metric, batch: Batch) -> dict[str, Any]:
    """The largest difference of the two engines on one batch, and the score that has it."""
    try:
        ours, theirs = (metric.model_copy(update={"engine": engine})(batch) for engine in ("device", "quantus"))
    except Exception as error:  # an audit reports, it does not end a run
        return {"largest": None, "score": "", "what": one_line(error, with_type=True)}
    apart = {name: largest_difference(ours[name], theirs[name]) for name in ours}
    score = max(apart, key=lambda name: apart[name])
    return {"largest": apart[score], "score": score, "what": ""}


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b|; infinite where one is NaN and the other is not."""
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    return float(np.nanmax(np.abs(a - b), initial=0.0)) if np.isfinite(a).any() else 0.0

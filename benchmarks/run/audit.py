"""Score a random sample of a run again with Quantus, and report the largest difference between the engines.

Both engines see the same few images and maps, with the same seed, and nothing that the run has stored is used: an error
in either shows. A metric that Quantus does not have, or fails on, is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.metrics import Batch, Metric
from benchmarks.store.record import AuditRecord
from interp_core.errors import one_line

IMAGES = 2


@dataclass(frozen=True)
class Sample:
    """Maps of one explainer to draw from."""

    model: str
    explainer: str
    batch: Batch


def audit(
    metrics: Mapping[str, Metric], samples: Sequence[Sample], seed: int, images: int = IMAGES
) -> list[AuditRecord]:
    """Compare every metric with Quantus on a few random images of one random explainer.

    Args:
        metrics: by name, as the run uses them.
        samples: what to draw from.
        seed: of the draws.
        images: number of images to score again.

    Returns:
        One entry for each metric. Descriptors that Quantus does not have are left out.
    """
    generator = np.random.default_rng(seed)
    entries = []
    for name, metric in metrics.items():
        if samples and (metric.has_reference() or metric.family != "descriptor"):
            sample = samples[int(generator.integers(len(samples)))]
            count = min(images, len(sample.batch.images))
            rows = np.sort(generator.choice(len(sample.batch.images), count, replace=False))
            entry = compare_engines(metric, select_images(sample.batch, rows))
            entries.append(
                AuditRecord(
                    metric=name,
                    model=sample.model,
                    explainer=sample.explainer,
                    images=count,
                    largest=entry.largest,
                    score=entry.score,
                    what=entry.what,
                )
            )
    return entries


def select_images(batch: Batch, rows: np.ndarray) -> Batch:
    """Return the batch of some of its images."""
    masks = None if batch.masks is None else batch.masks[rows]
    return replace(
        batch, images=batch.images[rows], targets=batch.targets[rows], maps=batch.maps[rows], masks=masks, passes=None
    )


@dataclass(frozen=True)
class EngineDifference:
    """The largest difference of two engines on a batch.

    Attributes:
        largest: difference; None if there is none to give.
        score: name of the score that has it.
        what: why there is no difference, else "".
    """

    largest: float | None = None
    score: str = ""
    what: str = ""


def compare_engines(metric: Metric, batch: Batch) -> EngineDifference:
    """Score a batch with both engines of a metric."""
    if not metric.has_reference():
        return EngineDifference(what="Quantus has no such metric")
    try:
        ours, theirs = (metric.model_copy(update={"engine": engine})(batch) for engine in ("device", "quantus"))
    except Exception as error:  # an audit reports, it does not end a run
        return EngineDifference(what=one_line(error, with_type=True))
    differences = {name: largest_difference(ours[name], theirs[name]) for name in ours}
    score = max(differences, key=lambda name: differences[name])
    return EngineDifference(differences[score], score)


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest |a - b|; infinite if one value is NaN and the other is not."""
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    return float(np.nanmax(np.abs(a - b), initial=0.0)) if np.isfinite(a).any() else 0.0

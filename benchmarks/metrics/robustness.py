"""Sensitivity: how much does the map change when the image changes a little?

Explainers with random draws get the same draws each time, so that their own noise is not counted.

Known limits: a map that never changes is best, so a control wins. The scores are shown and not ranked.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.quantus_adapter import evaluate


@metrics.register("sensitivity")
class Sensitivity(Metric):
    """Change of the map under small changes of the image.

    The change is a share of the map's own size; the scores are its mean and its largest value over random changes.

        |map(x + noise) - map(x)| / |map(x)|,  noise uniform in [-radius, radius] for every channel of every pixel

    Source: Yeh et al. 2019; quantus.AvgSensitivity and quantus.MaxSensitivity, from the same explanations.

    Fields:
        samples: number of changed images.
        radius: largest change, in units of the normalised image; 0.14 is about 8 / 255 after ImageNet's normalisation.
    """

    title: ClassVar[str] = "Sensitivity"
    family: ClassVar[Family] = "robustness"
    needs_model: ClassVar[bool] = True
    needs_explain: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("avg_sensitivity", "Mean sensitivity", "lower", 0.0, float("inf"), ranked=False),
        Score("max_sensitivity", "Largest sensitivity", "lower", 0.0, float("inf"), ranked=False),
    )

    samples: int = Field(default=10, ge=1)
    radius: float = Field(default=0.14, gt=0.0)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        assert batch.explain is not None
        rng = np.random.RandomState(batch.seed % 2**32)
        original = batch.maps.reshape(len(batch.maps), -1)
        distances = []
        for _ in range(self.samples):
            noise = rng.uniform(-self.radius, self.radius, (len(original), batch.images[0].size))
            images = (batch.images.reshape(len(original), -1) + noise).reshape(batch.images.shape).astype(np.float32)
            maps = batch.explain(batch.model, images, batch.targets)  # type: ignore[arg-type]
            distances.append(np.linalg.norm(original - maps.reshape(len(original), -1), axis=1))
        shares = np.stack(distances, axis=1) / np.linalg.norm(original, axis=1)[:, None]
        return {"avg_sensitivity": shares.mean(1), "max_sensitivity": shares.max(1)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        options = {"nr_samples": self.samples, "lower_bound": self.radius, "batch_size": len(batch.maps)}
        values = {}
        for name, column in (("AvgSensitivity", "avg_sensitivity"), ("MaxSensitivity", "max_sensitivity")):
            np.random.seed(batch.seed % 2**32)  # noqa: NPY002 - the same changes for both
            values[column] = evaluate(name, batch, batch.maps, **options)  # type: ignore[arg-type]
        return values

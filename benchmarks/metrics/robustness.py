"""Sensitivity: how far does the map move when the image moves a little?

Known limits: a map that never changes is best, so a control wins; it is shown and not ranked. Explainers that draw at
random get the same draw each time, so that their own noise is not counted.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.quantus_adapter import evaluate


@metrics.register("sensitivity")
class Sensitivity(Metric):
    """Change of the map as a share of its own size, over small random changes of the image: mean and largest.

        |map(x + noise) - map(x)| / |map(x)|,  noise uniform in [-radius, radius] for every channel of every pixel

    Source: Yeh et al. 2019; quantus.AvgSensitivity and quantus.MaxSensitivity, from the same explanations.

    Fields:
        samples: changed images.
        radius: in units of the normalised image; 0.14 is about 8 / 255 after ImageNet's normalisation.
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
        draw = np.random.RandomState(batch.seed % 2**32)
        own = batch.maps.reshape(len(batch.maps), -1)
        moved = []
        for _ in range(self.samples):
            noise = draw.uniform(-self.radius, self.radius, (len(own), batch.images[0].size))
            images = (batch.images.reshape(len(own), -1) + noise).reshape(batch.images.shape).astype(np.float32)
            maps = batch.explain(batch.model, images, batch.targets)  # type: ignore[arg-type]
            moved.append(np.linalg.norm(own - maps.reshape(len(own), -1), axis=1))
        shares = np.stack(moved, axis=1) / np.linalg.norm(own, axis=1)[:, None]
        return {"avg_sensitivity": shares.mean(1), "max_sensitivity": shares.max(1)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        options = {"nr_samples": self.samples, "lower_bound": self.radius, "batch_size": len(batch.maps)}
        values = {}
        for name, column in (("AvgSensitivity", "avg_sensitivity"), ("MaxSensitivity", "max_sensitivity")):
            np.random.seed(batch.seed % 2**32)  # noqa: NPY002 - both see the same changes
            values[column] = evaluate(name, batch, batch.maps, **options)  # type: ignore[arg-type]
        return values

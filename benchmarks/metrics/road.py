"""ROAD: is the decision lost when the most relevant pixels are imputed, and kept when the least relevant ones are?

Missing pixels are filled in from their neighbours with a little noise, which hides where they were: less of the class
leaks through the shape of what was removed than with a constant, and images stay nearer to those the network knows.

Known limits: blurred maps are favoured, since their holes are large; the score of one image has few steps.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from benchmarks.metrics.base import Batch, Metric, Score, metrics, passes_of
from benchmarks.metrics.imputation import impute
from benchmarks.metrics.passes import fingerprint
from benchmarks.metrics.patches import single_image
from benchmarks.metrics.quantus_adapter import evaluate, quantus_imputation
from benchmarks.metrics.removal import pixel_order

PERCENTAGES = tuple(float(p) for p in range(10, 100, 10))


@metrics.register("road")
class Road(Metric):
    """Share of the percentages at which the network still says the target, pixels imputed in the map's order.

    `road` = share with the least relevant imputed (LeRF) - share with the most relevant imputed (MoRF). Quantus gives
    one number a percentage for all images, takes the first batch only, and does not run on colour images: it is fed
    image by image with a map that it can index, and with the same noise for every explainer.
    Source: Rong et al. 2022; quantus.ROAD with an adapter.

    Fields:
        percentages: of the pixels that are imputed.
        noise: standard deviation of what is added to them, in units of the normalised image.
    """

    title: ClassVar[str] = "ROAD"
    needs_model: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (
        Score("road_morf", "ROAD, MoRF accuracy", "lower", 0.0, 1.0, ranked=False),
        Score("road_lerf", "ROAD, LeRF accuracy", "higher", 0.0, 1.0, ranked=False),
        Score("road", "ROAD, LeRF - MoRF", "higher", -1.0, 1.0),
    )

    percentages: tuple[float, ...] = Field(default=PERCENTAGES, min_length=1)
    noise: float = Field(default=0.01, ge=0.0)

    @field_validator("percentages")
    @classmethod
    def _between(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < value < 100 for value in values):
            raise ValueError("percentages must lie between 0 and 100")
        return values

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        return self._named(*(self._kept(batch, pixel_order(batch.maps, least_first=least)) for least in (False, True)))

    def _counts(self, batch: Batch) -> list[int]:
        """Pixels that are imputed at each percentage."""
        return [int(batch.maps[0].size * p / 100) for p in self.percentages]

    def _kept(self, batch: Batch, order: np.ndarray) -> np.ndarray:
        passes, counts = passes_of(batch), self._counts(batch)
        images = torch.from_numpy(batch.images).to(passes.device)
        place = torch.from_numpy(order).to(passes.device)
        bounds = torch.tensor(counts, device=passes.device)[:, None, None, None]
        noise = torch.from_numpy(self._noise(batch)).to(images)

        def imputed(rows: slice, steps: slice) -> Tensor:
            missing = place[rows, None] < bounds[steps]
            many = images[rows, None].expand(-1, missing.shape[1], -1, -1, -1)
            filled = impute(many.flatten(0, 1), missing.flatten(0, 1)).view_as(many)
            return (filled + noise[rows, None] * missing).permute(0, 1, 3, 4, 2)

        known = ("road", fingerprint(order), tuple(counts), self.noise, batch.seed)
        return passes.outputs(known, len(counts), imputed).hits.mean(1)

    def _noise(self, batch: Batch) -> np.ndarray:
        draw = np.random.default_rng(batch.seed)
        return (self.noise * draw.standard_normal(batch.images.shape)).astype(np.float32)

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        noise = self._noise(batch)
        shares = []
        for least in (False, True):
            order = pixel_order(batch.maps, least_first=least)
            shares.append(
                np.array([self._reference_kept(single_image(batch, i), order[i], noise[i]) for i in range(len(order))])
            )
        return self._named(*shares)

    def _reference_kept(self, batch: Batch, order: np.ndarray, noise: np.ndarray) -> float:
        """Share kept of one image: with its order in the first channel alone, indices of features are pixels'."""
        channels = batch.images.shape[1]
        maps = np.zeros(batch.images.shape)
        maps[0, 0] = order.size - order[0]
        percentages = [100 * (count + 0.5) / (order.size * channels) for count in self._counts(batch)]
        options = {"percentages": percentages, "perturb_func": quantus_imputation(noise)}
        return float(evaluate("ROAD", batch, maps, **options).mean())  # type: ignore[arg-type]

    @staticmethod
    def _named(morf: np.ndarray, lerf: np.ndarray) -> dict[str, np.ndarray]:
        return {"road_morf": morf, "road_lerf": lerf, "road": lerf - morf}

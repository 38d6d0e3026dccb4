"""ROAD: is the decision lost when the most relevant pixels are imputed, and kept when the least relevant ones are?

Removed pixels are filled in from their neighbours with a little noise. This hides the shape of the removed area, which
could give the class away, and keeps images nearer to those that the network knows.

Known limits: blurred maps are favoured, since their holes are large. The score of one image has few steps.
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
from benchmarks.metrics.quantus_adapter import count_classes, evaluate, quantus_imputation
from benchmarks.metrics.removal import pixel_order
from interp_core.errors import ContractError

PERCENTAGES = tuple(float(p) for p in range(10, 100, 10))


@metrics.register("road")
class Road(Metric):
    """Share of imputed versions on which the network predicts the target.

    Each version imputes a percentage of the pixels, in the map's order.

    `road` = share with the least relevant imputed (LeRF) - share with the most relevant imputed (MoRF). Quantus gives
    one number a percentage for all images, takes the first batch only, and does not run on colour images. So the
    reference runs image by image, with a map that Quantus can index and the same noise for every explainer. With one
    logit, which no other can overtake, the score is the mean probability of the target, and there is no reference.
    Source: Rong et al. 2022; quantus.ROAD with an adapter.

    Fields:
        percentages: percentages of the pixels that are imputed.
        noise: standard deviation of the noise that is added to them, in units of the normalised image.
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
        orders = [pixel_order(batch.maps, least_first=least_first) for least_first in (False, True)]
        return self._by_name(*(self._hit_share(batch, order) for order in orders))

    def _counts(self, batch: Batch) -> list[int]:
        """Return the number of pixels that are imputed at each percentage."""
        return [int(batch.maps[0].size * p / 100) for p in self.percentages]

    def _hit_share(self, batch: Batch, order: np.ndarray) -> np.ndarray:
        """Compute the share (N,) of versions that keep the target."""
        passes, counts = passes_of(batch), self._counts(batch)
        images = torch.from_numpy(batch.images).to(passes.device)
        positions = torch.from_numpy(order).to(passes.device)
        bounds = torch.tensor(counts, device=passes.device)[:, None, None, None]
        noise = torch.from_numpy(self._noise(batch)).to(images)

        def make_images(rows: slice, versions: slice) -> Tensor:
            missing = positions[rows, None] < bounds[versions]
            copies = images[rows, None].expand(-1, missing.shape[1], -1, -1, -1)
            imputed = impute(copies.flatten(0, 1), missing.flatten(0, 1)).view_as(copies)
            return (imputed + noise[rows, None] * missing).permute(0, 1, 3, 4, 2)

        cache_key = ("road", fingerprint(order), tuple(counts), self.noise, batch.seed)
        outputs = passes.run(cache_key, len(counts), make_images)
        # The sign of a single logit hardly ever changes, and nothing else can win.
        return (outputs.probabilities if passes.network.single_logit else outputs.hits).mean(1)

    def _noise(self, batch: Batch) -> np.ndarray:
        rng = np.random.default_rng(batch.seed)
        return (self.noise * rng.standard_normal(batch.images.shape)).astype(np.float32)

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        if count_classes(batch) == 1:
            raise ContractError("quantus ROAD compares classes, and the network has one logit: use engine 'device'")
        noise = self._noise(batch)
        shares = []
        for least_first in (False, True):
            order = pixel_order(batch.maps, least_first=least_first)
            images = [single_image(batch, index) for index in range(len(order))]
            shares.append(np.array([self._reference_share(*row) for row in zip(images, order, noise, strict=True)]))
        return self._by_name(*shares)

    def _reference_share(self, batch: Batch, order: np.ndarray, noise: np.ndarray) -> float:
        """Compute the share of one image by Quantus.

        The order is in the first channel alone, so that Quantus' indices of features are indices of pixels.
        """
        channels = batch.images.shape[1]
        maps = np.zeros(batch.images.shape)
        maps[0, 0] = order.size - order[0]
        percentages = [100 * (count + 0.5) / (order.size * channels) for count in self._counts(batch)]
        options = {"percentages": percentages, "perturb_func": quantus_imputation(noise)}
        return float(evaluate("ROAD", batch, maps, **options).mean())  # type: ignore[arg-type]

    @staticmethod
    def _by_name(morf: np.ndarray, lerf: np.ndarray) -> dict[str, np.ndarray]:
        return {"road_morf": morf, "road_lerf": lerf, "road": lerf - morf}

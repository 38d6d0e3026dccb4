"""Pixel flipping, deletion and insertion: does the output follow the map when pixels are removed one after the other?

A curve gives the target's probability after each step. Pixels are removed in both orders, most relevant first (MoRF)
and least relevant first (LeRF). Deletion and insertion are areas under curves of the same kind, so pixel flipping,
deletion, and insertion into the same fill share two sweeps.

Known limits: removal without retraining is out of distribution, and it favours blurred maps. The sides of images need
suitable divisors, since Quantus needs equal steps; multiples of 8 always have them.
"""

from __future__ import annotations

from math import prod
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Metric, Score, metrics, passes_of
from benchmarks.metrics.quantus_adapter import evaluate, predictions, replace_by
from benchmarks.metrics.removal import area_under, features_in_step, fill_values, pixel_order

Fill = Literal["mean", "blur"]


class PixelSweep(Metric):
    """Base class of metrics that remove pixels in the map's order.

    They record the target's probability after each step.

    Fields:
        steps: approximate number of steps, see `removal.features_in_step`.
        fill: values of removed pixels, see `removal.fill_values`.
    """

    needs_model: ClassVar[bool] = True

    steps: int = Field(default=24, ge=2)
    fill: Fill = "mean"

    def curve(self, batch: Batch, *, least_first: bool = False) -> np.ndarray:
        """Compute the target's probabilities (N, steps + 1), from nothing to everything removed."""
        step, size = features_in_step(batch.images.shape[1:], self.steps), prod(batch.images.shape[1:])
        order = pixel_order(batch.maps, least_first=least_first)
        counts = range(0, size + 1, step)
        return passes_of(batch).run_removals(order, counts, self.fill, by_channel=True).probabilities

    def reference_curve(self, batch: Batch, *, least_first: bool = False) -> np.ndarray:
        """Compute the same curve by quantus.PixelFlipping.

        Quantus leaves out the first point, which is added.
        """
        step, size = features_in_step(batch.images.shape[1:], self.steps), prod(batch.images.shape[1:])
        channels = batch.images.shape[1]
        # A different value for each feature, so that the channels of a pixel are removed one after the other.
        position = pixel_order(batch.maps, least_first=least_first) * channels + np.arange(channels)[:, None, None]
        curve = evaluate(
            "PixelFlipping",
            batch,
            (size - position).astype(np.float64),
            probabilities=True,
            features_in_step=step,
            **replace_by(fill_values(batch.images, self.fill)),
        )
        return np.concatenate([predictions(batch)[:, None], curve], axis=1)


@metrics.register("pixel_flipping")
class PixelFlipping(PixelSweep):
    """Area under the target's probability while pixels are removed.

    Pixels are removed in the map's order, from none to all.

    `pixel_flipping` = LeRF area - MoRF area, in which the harm of removing any pixels cancels. The unperturbed point,
    which Quantus leaves out, is included. At most one pixel a step is removed channel by channel, none where steps are
    whole pixels.
    Source: Bach et al. 2015, both orders as in Samek et al. 2017; quantus.PixelFlipping.
    """

    title: ClassVar[str] = "Pixel flipping"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("pixel_flipping_morf", "Pixel flipping, MoRF area", "lower", 0.0, 1.0, ranked=False),
        Score("pixel_flipping_lerf", "Pixel flipping, LeRF area", "higher", 0.0, 1.0, ranked=False),
        Score("pixel_flipping", "Pixel flipping, LeRF - MoRF", "higher", -1.0, 1.0),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        return self._areas(self.curve(batch), self.curve(batch, least_first=True))

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        return self._areas(self.reference_curve(batch), self.reference_curve(batch, least_first=True))

    @staticmethod
    def _areas(most: np.ndarray, least: np.ndarray) -> dict[str, np.ndarray]:
        morf, lerf = area_under(most), area_under(least)
        return {"pixel_flipping_morf": morf, "pixel_flipping_lerf": lerf, "pixel_flipping": lerf - morf}


@metrics.register("deletion")
class Deletion(PixelSweep):
    """Area under the probability while the most relevant pixels are removed.

    Removed pixels become the mean. With the same steps the curve is pixel flipping's MoRF curve and costs nothing more.
    Source: Petsiuk, Das and Saenko 2018 (RISE); curve by quantus.PixelFlipping.
    """

    title: ClassVar[str] = "Deletion"
    scores: ClassVar[tuple[Score, ...]] = (Score("deletion", "Deletion area", "lower", 0.0, 1.0),)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"deletion": area_under(self.curve(batch))}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"deletion": area_under(self.reference_curve(batch))}


@metrics.register("insertion")
class Insertion(PixelSweep):
    """Area under the probability while relevant pixels return to a blur.

    This is the LeRF curve read from its end. The blur has a standard deviation of a sixteenth of the side.
    Source: Petsiuk, Das and Saenko 2018 (RISE); curve by quantus.PixelFlipping.
    """

    title: ClassVar[str] = "Insertion"
    scores: ClassVar[tuple[Score, ...]] = (Score("insertion", "Insertion area", "higher", 0.0, 1.0),)

    fill: Fill = "blur"

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"insertion": area_under(self.curve(batch, least_first=True))}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"insertion": area_under(self.reference_curve(batch, least_first=True))}

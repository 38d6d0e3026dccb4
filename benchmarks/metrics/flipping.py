"""Pixel flipping, deletion and insertion: does the output follow the map when pixels go one after the other?

Curves read the target's probability and are run in both orders, most relevant first (MoRF) and least relevant first
(LeRF). Deletion and insertion are areas under curves of the same kind, so pixel flipping, deletion, and insertion into
the same fill are three readings of two sweeps, made once.

Known limits: removal without retraining is out of distribution, and blurred maps are favoured by it. Images must have
sides with suitable divisors, since Quantus asks for equal steps; a multiple of 8 always has.
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
    """What the three have in common: the target's probability while pixels go in the map's order.

    Fields:
        steps: wanted number of steps; see `removal.features_in_step`.
        fill: what pixels are replaced by, see `removal.filled`.
    """

    needs_model: ClassVar[bool] = True

    steps: int = Field(default=24, ge=2)
    fill: Fill = "mean"

    def curve(self, batch: Batch, *, least_first: bool = False) -> np.ndarray:
        """Probabilities (N, steps + 1) of the target, from nothing to everything removed."""
        step, size = features_in_step(batch.images.shape[1:], self.steps), prod(batch.images.shape[1:])
        order = pixel_order(batch.maps, least_first=least_first)
        counts = range(0, size + 1, step)
        return passes_of(batch).removed(order, counts, self.fill, by_channel=True).probabilities

    def reference_curve(self, batch: Batch, *, least_first: bool = False) -> np.ndarray:
        """The same by quantus.PixelFlipping, which leaves the first point out."""
        step, size = features_in_step(batch.images.shape[1:], self.steps), prod(batch.images.shape[1:])
        channels = batch.images.shape[1]
        # Values that say in full which feature goes next: channels of a pixel one after the other.
        place = pixel_order(batch.maps, least_first=least_first) * channels + np.arange(channels)[:, None, None]
        rest = evaluate(
            "PixelFlipping",
            batch,
            (size - place).astype(np.float64),
            probabilities=True,
            features_in_step=step,
            **replace_by(fill_values(batch.images, self.fill)),
        )
        return np.concatenate([predictions(batch)[:, None], rest], axis=1)


@metrics.register("pixel_flipping")
class PixelFlipping(PixelSweep):
    """Area under the target's probability while pixels are removed, from none to all, in the map's order.

    `pixel_flipping` = LeRF area - MoRF area: what removal does to any image, whichever pixels go, cancels. The
    unperturbed point, which Quantus leaves out, is added. At most one pixel a step is removed channel by channel, none
    where steps are whole pixels.
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
    """Area under the target's probability while the most relevant pixels are replaced by the mean, first to last.

    With the same steps the curve is pixel flipping's MoRF curve and costs nothing more.
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
    """Area under the target's probability while the most relevant pixels come back into a blurred image.

    That is the LeRF curve read from its end. The blur has a standard deviation of a sixteenth of the side.
    Source: Petsiuk, Das and Saenko 2018 (RISE); curve by quantus.PixelFlipping.
    """

    title: ClassVar[str] = "Insertion"
    scores: ClassVar[tuple[Score, ...]] = (Score("insertion", "Insertion area", "higher", 0.0, 1.0),)

    fill: Fill = "blur"

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"insertion": area_under(self.curve(batch, least_first=True))}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"insertion": area_under(self.reference_curve(batch, least_first=True))}

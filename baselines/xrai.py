"""XRAI: Integrated Gradients summed over segments, and segments ranked by what each pixel of theirs has on average.

Idea: segment the image at six scales, take the segment whose new pixels have the highest mean attribution, and go on
with what it leaves of the others. A pixel has the mean of the segment that took it.
Paper: Kapishnikov et al., ICCV 2019.
Library: own code for the ranking of segments, which takes a tenth of the time of PAIR's saliency; the tests compare
both. Integrated Gradients by captum, segments by scikit-image's Felzenszwalb (scales 50 to 1200 at 224 px, as in PAIR's
code).
Baseline: two images, one of the image's smallest value and one of its largest (black and white).
Budget: 100 steps from each baseline.
Cost: 200 forwards, 200 backwards.
Not valid: nowhere refused.
Known limits: shapes of segments, which an object of one colour gets and a texture does not. Images of another size are
resized to 224 px for the segments, as in PAIR's code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers

Array = npt.NDArray[Any]

SIDE = 224
SCALES = (50, 100, 150, 250, 500, 1200)
# Pixels of an image of 224 px.
MIN_SEGMENT = 150
MIN_GAIN = 50
RADIUS = 5


def segments(image: Array, side: int = SIDE) -> Array:
    """Segment an image (H, W, C) of any range at several scales.

    Args:
        image: (H, W, C).
        side: rows and columns that it is resized to first.

    Returns:
        Masks (n, H, W), which overlap, each larger than its segment by a few pixels.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import felzenszwalb
    from skimage.transform import resize

    height, width = image.shape[:2]
    low, high = float(image.min()), float(image.max())
    unit = (image - low) / (high - low) if high > low else np.zeros_like(image)
    resized = resize(unit * 2 - 1, (side, side), order=3, mode="constant", anti_aliasing=True)
    smallest, radius, masks = round(MIN_SEGMENT * (side / SIDE) ** 2), RADIUS * (height * width) ** 0.5 / SIDE, []
    for scale in SCALES:
        labels = felzenszwalb(resized, scale=scale, sigma=0.8, min_size=smallest, channel_axis=-1)
        labels = resize(labels, (height, width), order=0, preserve_range=True, anti_aliasing=False).astype(int)
        masks += [distance_transform_edt(labels != label) <= radius for label in np.unique(labels)]
    return np.stack(masks)


def rank_segments(values: Array, masks: Array, min_gain: int) -> Array:
    """Give each pixel the mean value of the segment that takes it.

    Segments take pixels in turn, the one with the highest mean of its new pixels first. Pixels that no segment takes
    have their own mean.

    Args:
        values: (P,), one for each pixel.
        masks: (n, P), segments, which may overlap.
        min_gain: fewest new pixels that a segment must have.
    """
    weights = np.stack([values, np.ones_like(values)], 1)
    totals = masks.astype(weights.dtype) @ weights  # of the pixels that are free: (n, sum and number)
    free, result = np.ones(len(values), dtype=bool), np.zeros_like(values)
    while (usable := totals[:, 1] >= min_gain).any():
        means = np.where(usable, totals[:, 0] / np.maximum(totals[:, 1], 1), -np.inf)
        best = int(means.argmax())
        pixels = np.flatnonzero(masks[best] & free)
        result[pixels] = means[best]
        free[pixels] = False
        totals -= masks[:, pixels].astype(weights.dtype) @ weights[pixels]
        totals[best] = 0
    if free.any():
        result[free] = values[free].mean()
    return result


@explainers.register("xrai")
class Xrai(Explainer):
    """Mean Integrated Gradients of segments, the best segments first.

    Fields:
        steps: points of the quadrature from each baseline.
        side: rows and columns at which images are segmented.
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "XRAI"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Kapishnikov et al. 2019; captum IntegratedGradients"

    steps: int = Field(100, ge=2)
    side: int = Field(SIDE, ge=8)
    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W), constant within what a segment took."""
        import captum.attr

        method, values = captum.attr.IntegratedGradients(model), torch.zeros_like(images)
        for baseline in (images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)):
            values += method.attribute(
                images,
                baselines=baseline.expand_as(images),
                target=targets,
                n_steps=self.steps,
                internal_batch_size=self.internal_batch_size,
            )
        height, width = images.shape[-2:]
        pixels = (values / 2).amax(1).flatten(1).double().cpu().numpy()
        arrays = images.float().permute(0, 2, 3, 1).cpu().numpy()
        min_gain = max(1, round(MIN_GAIN * height * width / SIDE**2))
        maps = [
            rank_segments(each, segments(array, self.side).reshape(-1, height * width), min_gain)
            for each, array in zip(pixels, arrays, strict=True)
        ]
        return torch.from_numpy(np.stack(maps)).view(-1, 1, height, width)

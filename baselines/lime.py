"""LIME: a weighted linear model of the target's probability over superpixels that are switched on and off.

Idea: hide random halves of the superpixels, ask the model, fit a ridge regression near the image; its weights are the
map.
Paper: Ribeiro et al., KDD 2016.
Library: lime `LimeImageExplainer` with its kernel, its regression and its hiding
(every superpixel takes its mean colour), and superpixels by scikit-image's SLIC (sigma 1, compactness 10) on the image
rescaled to [0, 1].
Baseline: the mean colour of each superpixel.
Budget: 1000 samples over about 100 superpixels at 224 px. Both shrink with the side of the image down to a quarter, so
that there are ten samples for each superpixel at every size; 286 samples over about 29 superpixels at 64 px.
Cost: 1000 forwards at 224 px, 286 at 64 px; no backward.
Not valid: images of other than 1 or 3 channels: refused.
Known limits: one value for a whole superpixel; depends on segmentation and seed; hiding by the mean colour hides
nothing where a superpixel is flat. Explains one image at a time, of one or three channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.probabilities import Probability, probability
from interp_core.errors import ContractError

LEAST_SCALE = 0.25


def scaled_budget(height: int, width: int, samples_at_224: int, segments_at_224: int) -> tuple[int, int]:
    """Samples and superpixels for an image of `height` x `width` pixels.

    Both numbers at 224 px are multiplied by max(sqrt(height * width) / 224, 1/4) and rounded; at least two of each.
    """
    scale = max((height * width) ** 0.5 / 224, LEAST_SCALE)
    return max(2, round(samples_at_224 * scale)), max(2, round(segments_at_224 * scale))


def superpixels(image: np.ndarray, segments: int) -> np.ndarray:
    """Labels (H, W) from 0 without gaps: about `segments` SLIC superpixels of `image` (H, W, C), of any range."""
    from skimage.segmentation import slic

    low, high = float(image.min()), float(image.max())
    unit = (image - low) / (high - low) if high > low else np.zeros_like(image)
    # Without a little smoothing SLIC tears noise into crumbs and then merges them into a few giants.
    labels = slic(unit, n_segments=segments, sigma=1, start_label=0, channel_axis=-1)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def classifier(model: nn.Module, like: Tensor, kind: Probability = "softmax") -> Callable[[np.ndarray], np.ndarray]:
    """Function from images (N, H, W, 3) to probabilities (N, K) that lime can ask.

    `like` (N, C, H, W) tells the model's device and type. Where C is 1, the three equal channels that lime needs are
    taken for one.
    """

    def probabilities(images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(images).permute(0, 3, 1, 2)[:, : like.shape[1]].to(like)
        with torch.no_grad():
            return probability(model(batch), kind).float().cpu().numpy()

    return probabilities


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Lime draws a progress bar and has no switch for it: its `tqdm` is replaced inside and put back after."""
    from lime import lime_image

    tqdm = lime_image.tqdm
    lime_image.tqdm = lambda rows, **_: rows
    try:
        yield
    finally:
        lime_image.tqdm = tqdm


@explainers.register("lime")
class Lime(Explainer):
    """Weights of a local linear model over superpixels, painted over them.

    Fields:
        samples_at_224: images asked of the model for an image of 224 px; see `scaled_budget`.
        segments_at_224: superpixels of an image of 224 px.
        batch_size: images that go through the model at once.
        probability: "softmax", or "sigmoid" where an image may show several classes.
    """

    title: ClassVar[str] = "LIME"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Ribeiro et al. 2016; lime LimeImageExplainer"

    samples_at_224: int = Field(1000, ge=8)
    segments_at_224: int = Field(100, ge=8)
    batch_size: int = Field(64, ge=1)
    probability: Probability = "softmax"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W), the weight of each pixel's superpixel; images must have the 1 or 3 channels lime reads."""
        channels = images.shape[1]
        if channels not in (1, 3):
            raise ContractError(f"{self.name}: lime reads images of 1 or 3 channels, got {channels}")
        ask = classifier(model, images, self.probability)
        # One for all images: the map of an image must not depend on its place in the batch.
        seed = int(torch.randint(2**31, ()))
        arrays = images.float().permute(0, 2, 3, 1).cpu().numpy()
        with without_progress_bar():
            maps = [self._one(ask, *each, seed) for each in zip(arrays, targets.tolist(), strict=True)]
        return torch.from_numpy(np.stack(maps)).unsqueeze(1)

    def _one(self, ask: Callable[[np.ndarray], np.ndarray], image: np.ndarray, target: int, seed: int) -> np.ndarray:
        from lime.lime_image import LimeImageExplainer

        height, width = image.shape[:2]
        samples, segments = scaled_budget(height, width, self.samples_at_224, self.segments_at_224)
        explanation = LimeImageExplainer(random_state=seed, feature_selection="none").explain_instance(
            np.broadcast_to(image, (height, width, 3)).copy(),
            ask,
            labels=(target,),
            top_labels=None,
            num_samples=samples,
            batch_size=self.batch_size,
            segmentation_fn=lambda _: superpixels(image, segments),
            random_seed=seed % 1000,
        )
        return paint(explanation.segments, explanation.local_exp[target])


def paint(segments: np.ndarray, weights: list[tuple[Any, Any]]) -> np.ndarray:
    """Each pixel of `segments` (H, W) gets the weight of its label; `weights` are pairs (label, weight)."""
    values = np.zeros(int(segments.max()) + 1, dtype=np.float32)
    for label, weight in weights:
        values[int(label)] = weight
    return values[segments]

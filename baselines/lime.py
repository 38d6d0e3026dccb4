"""LIME: a weighted linear model of the target's probability over superpixels that are switched on and off.

Idea: hide random halves of the superpixels, run the model, and fit a ridge regression near the image. Its weights are
the map.
Paper: Ribeiro et al., KDD 2016.
Library: lime `LimeImageExplainer` with its kernel, its regression and its hiding (a superpixel takes its mean colour).
Superpixels by scikit-image's SLIC (sigma 1, compactness 10) on the image rescaled to [0, 1].
Baseline: the mean colour of each superpixel.
Budget: 1000 samples over about 100 superpixels at 224 px. Both shrink with the side of the image, down to a quarter, so
that there are ten samples for each superpixel at every size: 286 samples over about 29 superpixels at 64 px.
Cost: 1000 forwards at 224 px, 286 at 64 px; no backward.
Not valid: images with other than 1 or 3 channels: refused.
Known limits: one value for a whole superpixel. Depends on segmentation and seed. The mean colour hides nothing where a
superpixel is flat. Explains one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from interp_core.errors import ContractError
from interp_core.lap.odds import class_probabilities

Array = npt.NDArray[Any]
Probability = Literal["softmax", "sigmoid"]

MIN_SCALE = 0.25


def scale_budget(height: int, width: int, samples_at_224: int, segments_at_224: int) -> tuple[int, int]:
    """Scale the numbers of samples and superpixels to an image of `height` x `width` pixels.

    Both numbers at 224 px are multiplied by max(sqrt(height * width) / 224, 1/4) and rounded; at least two of each.
    """
    scale = max((height * width) ** 0.5 / 224, MIN_SCALE)
    return max(2, round(samples_at_224 * scale)), max(2, round(segments_at_224 * scale))


def superpixels(image: Array, segments: int) -> Array:
    """Segment `image` (H, W, C), of any range, into about `segments` SLIC superpixels.

    Returns:
        Labels (H, W), from 0 without gaps.
    """
    from skimage.segmentation import slic

    low, high = float(image.min()), float(image.max())
    unit = (image - low) / (high - low) if high > low else np.zeros_like(image)
    # Without smoothing SLIC splits noise into tiny pieces and then merges them into a few very large ones.
    labels = slic(unit, n_segments=segments, sigma=1, start_label=0, channel_axis=-1)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def classifier(model: nn.Module, like: Tensor, kind: Probability = "softmax") -> Callable[[Array], Array]:
    """Make a function from images (N, H, W, 3) to probabilities (N, K), for lime.

    Args:
        model: network from images (N, C, H, W) to logits.
        like: tensor (N, C, H, W) on the model's device and of its type. If C is 1, the first of the three equal
            channels that lime needs is used.
        kind: "softmax" or "sigmoid"; one logit always has a sigmoid.
    """

    def probabilities(images: Array) -> Array:
        batch = torch.from_numpy(images).permute(0, 3, 1, 2)[:, : like.shape[1]].to(like)
        with torch.no_grad():
            values: Array = class_probabilities(model(batch), kind == "sigmoid").float().cpu().numpy()
        return values

    return probabilities


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Replace lime's `tqdm` temporarily, since lime has no option to switch its progress bar off."""
    from lime import lime_image

    tqdm = lime_image.tqdm
    lime_image.tqdm = lambda rows, **_: rows
    try:
        yield
    finally:
        lime_image.tqdm = tqdm


@explainers.register("lime")
class Lime(Explainer):
    """Weights of a local linear model of the superpixels, as a map.

    Fields:
        samples_at_224: images passed through the model for an image of 224 px; see `scale_budget`.
        segments_at_224: superpixels of an image of 224 px.
        batch_size: images that go through the model at once.
        probability: "softmax", or "sigmoid" where an image may show several classes; one logit always has a sigmoid.
    """

    title: ClassVar[str] = "LIME"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Ribeiro et al. 2016; lime LimeImageExplainer"

    samples_at_224: int = Field(1000, ge=8)
    segments_at_224: int = Field(100, ge=8)
    batch_size: int = Field(64, ge=1)
    probability: Probability = "softmax"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W), the weight of each pixel's superpixel.

        Raises:
            ContractError: the images have other than 1 or 3 channels.
        """
        channels = images.shape[1]
        if channels not in (1, 3):
            raise ContractError(f"{self.name}: lime reads images of 1 or 3 channels, got {channels}")
        predict = classifier(model, images, self.probability)
        # One seed for all images, since a map must not depend on the position in the batch.
        seed = int(torch.randint(2**31, ()))
        arrays = images.float().permute(0, 2, 3, 1).cpu().numpy()
        with without_progress_bar():
            maps = [self._explain(predict, *pair, seed) for pair in zip(arrays, targets.tolist(), strict=True)]
        return torch.from_numpy(np.stack(maps)).unsqueeze(1)

    def _explain(self, predict: Callable[[Array], Array], image: Array, target: int, seed: int) -> Array:
        from lime.lime_image import LimeImageExplainer

        height, width = image.shape[:2]
        samples, segments = scale_budget(height, width, self.samples_at_224, self.segments_at_224)
        explanation = LimeImageExplainer(random_state=seed, feature_selection="none").explain_instance(
            np.broadcast_to(image, (height, width, 3)).copy(),
            predict,
            labels=(target,),
            top_labels=None,
            num_samples=samples,
            batch_size=self.batch_size,
            segmentation_fn=lambda _: superpixels(image, segments),
            random_seed=seed % 1000,
        )
        return paint(explanation.segments, explanation.local_exp[target])


def paint(segments: Array, weights: list[tuple[Any, Any]]) -> Array:
    """Map labels (H, W) to their weights, given as pairs (label, weight)."""
    values = np.zeros(int(segments.max()) + 1, dtype=np.float32)
    for label, weight in weights:
        values[int(label)] = weight
    painted: Array = values[segments]
    return painted

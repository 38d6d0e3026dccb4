"""Kernel SHAP: Shapley values of superpixels, by a weighted regression on random coalitions.

Idea: hide superpixels, and fit a linear model to the target's logit with the weights that make its coefficients Shapley
values. They sum to logit(x) - logit(baseline).
Paper: Lundberg and Lee, NIPS 2017.
Library: shap `KernelExplainer`, without its selection of features. Superpixels as for LIME.
Baseline: 0 in normalised space, the mean of the data set.
Budget: 2 n + 2048 coalitions of n superpixels at 224 px, shap's default, with n about 100. Both numbers shrink with the
side of the image, down to a quarter.
Cost: 2250 forwards at 224 px, 640 at 64 px, about; no backward.
Not valid: nowhere refused.
Known limits: one value for a whole superpixel. Depends on segmentation and seed. Explains one image at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.lime import scale_budget, superpixels
from baselines.support.gradients import target_logits
from baselines.support.guard import seed_generators

Array = npt.NDArray[Any]


@contextmanager
def quiet_shap() -> Iterator[None]:
    """Silence what shap logs about each explanation."""
    logger = logging.getLogger("shap")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def shapley_values(value_of: Callable[[Array], Array], players: int, coalitions: int) -> Array:
    """Estimate the Shapley values (players,) of a game.

    Args:
        value_of: from coalitions (M, players) of 0 and 1 to their values (M,).
        players: number of players.
        coalitions: number of coalitions that are asked, besides all players and none.
    """
    import shap

    with quiet_shap():
        explainer = shap.KernelExplainer(value_of, np.zeros((1, players)))
        values: Array = explainer.shap_values(np.ones((1, players)), nsamples=coalitions, l1_reg=0, silent=True)
    return values.reshape(players)


@explainers.register("kernel_shap")
class KernelShap(Explainer):
    """Shapley values of superpixels, which sum to the difference of the logits, spread over their pixels.

    Fields:
        samples_at_224: coalitions for an image of 224 px, besides two for each superpixel; see `scale_budget`.
        segments_at_224: superpixels of an image of 224 px.
        batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "Kernel SHAP"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Lundberg and Lee 2017; shap KernelExplainer"

    samples_at_224: int = Field(2048, ge=1)
    segments_at_224: int = Field(100, ge=8)
    batch_size: int = Field(64, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W); the pixels of a superpixel share its value equally."""
        # One seed for all images, since a map must not depend on the position in the batch.
        seed = int(torch.randint(2**31, ()))
        maps = []
        for image, target in zip(images, targets, strict=True):
            with seed_generators(seed):
                maps.append(self._explain(model, image, target))
        return torch.stack(maps).unsqueeze(1)

    def _explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Compute the map (H, W) of one image (C, H, W)."""
        samples, segments = scale_budget(image.shape[1], image.shape[2], self.samples_at_224, self.segments_at_224)
        labels = superpixels(image.float().permute(1, 2, 0).cpu().numpy(), segments)
        index = torch.from_numpy(labels).to(image.device)

        def value_of(coalitions: Array) -> Array:
            logits = []
            for part in torch.from_numpy(coalitions).to(image).split(self.batch_size):
                shown = part[:, index].unsqueeze(1)
                with torch.no_grad():
                    logits.append(target_logits(model(image * shown), target.expand(len(part))))
            values: Array = torch.cat(logits).double().cpu().numpy()
            return values

        players = int(labels.max()) + 1
        values = torch.from_numpy(shapley_values(value_of, players, samples + 2 * players))
        sizes = torch.from_numpy(np.bincount(labels.ravel()))
        return (values / sizes)[torch.from_numpy(labels)]

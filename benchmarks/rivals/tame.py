"""TAME: an attention module beside a network learns masks that keep the network's answer.

    M    = sigmoid(S)      K masks, one per class; S as in `benchmarks.rivals.amortised`
    loss = w_1 (-log p_k(x * M_k)) + w_2 mean(M_k^0.3) + w_3 variation(M_k)     with k the network's own answer

Source: Ntrougkas et al., "TAME: attention mechanism based feature fusion for generating explanation maps of
convolutional neural networks", ISM 2022.

Known limits: masks multiply normalised pixels, so that what is hidden has the mean colour. The paper's weights are for
1,000 classes; w_1 is divided by log K / log 1000 here, since with few classes the best mask would else be empty. The
variation is the mean squared difference of neighbours. See `benchmarks.rivals.amortised` for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmarks.rivals.amortised import AmortisedOptions, AmortisedRival
from benchmarks.rivals.base import rivals
from interp_core.backbone.geometry import resize
from interp_core.backbone.trace import evaluating
from interp_core.lap.odds import log_odds
from interp_core.training import decision_loss

AREA_POWER = 0.3
PAPER_CLASSES = 1000


class TameOptions(AmortisedOptions):
    """Parameters of TAME; the weights are the paper's.

    Fields:
        masked_weight: weight of the cross-entropy of the masked image, for 1,000 classes.
        area_weight: weight of the area of the mask.
        variation_weight: weight of its variation.
    """

    masked_weight: float = Field(1.5, ge=0)
    area_weight: float = Field(2.0, ge=0)
    variation_weight: float = Field(0.01, ge=0)


@rivals.register("tame")
class Tame(AmortisedRival[TameOptions]):
    """A plain network, and a module whose masks keep its answers."""

    title: ClassVar[str] = "TAME"
    source: ClassVar[str] = "Ntrougkas et al. 2022"
    explains_itself: ClassVar[bool] = True

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Compute the network's class loss, and the losses of the masks; see `Rival.losses`."""
        maps, logits = self.read(images)
        classes = logits.detach().argmax(1)
        masks = self.class_maps(maps).sigmoid()[torch.arange(len(images)), classes].unsqueeze(1)
        masked = self.frozen_logits(images * self.to_images(masks, images))
        # An image of which nothing is seen costs log K, against an area of at most 1.
        scale = log(PAPER_CLASSES) / log(max(2, logits.shape[1]))
        variation = masks.diff(dim=2).square().mean() + masks.diff(dim=3).square().mean()
        return {
            "cross_entropy": decision_loss(logits, targets),
            "masked": self.options.masked_weight * scale * F.softplus(-log_odds(masked, classes)).mean(),
            "area": self.options.area_weight * masks.pow(AREA_POWER).mean(),
            "variation": self.options.variation_weight * variation,
        }

    def to_images(self, masks: Tensor, images: Tensor) -> Tensor:
        """Resize masks (N, 1, h, w) of the finest map to the resolution of `images`."""
        height, width = images.shape[-2:]
        return resize(masks, height, width, self.stages()[0].grid_of((height, width)).shown())

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return maps (N, 1, H, W) in (0, 1), from one forward pass."""
        with evaluating(self), torch.no_grad():
            masks = self.class_maps(self.read(images)[0]).sigmoid()
            return self.to_images(masks[torch.arange(len(images)), targets].unsqueeze(1), images)

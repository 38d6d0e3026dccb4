"""Exchange: the decision must stay when a region is replaced by the same region of another image.

Forbid constrains the map only. A network can obey it and still decide by the region, through neighbouring cells. Where
a region always agrees with the label, the images alone give no reason not to use it. Exchange makes images in which it
disagrees: the region is in-painted from its surroundings, and another image's region is laid on top.

    x'_i = b_i (1 - m_j) + x_j m_j,   b_i = x_i in-painted inside m_i,   j = the next image of the batch with a region

After the background exchange of Xiao et al., Noise or Signal (arXiv 2006.09994), which replaces everything but the
object.

Limits: a network may see traces of the in-painting. A region as large as the object removes the object.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.knowledge.backgrounds import fill
from interp_core.knowledge.regions import RegionTerm, Where
from interp_core.knowledge.term import mean_where, terms
from interp_core.knowledge.view import View


@terms.register("exchange")
class Exchange(RegionTerm):
    """The decision after a region is exchanged for another image's: cross-entropy of the labels, in nats.

    Costs one pass. A mean over the images that have the region.
    """

    weight: float = Field(1.0, ge=0)
    region: Where = "irrelevant"

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        masks, has_mask = self.masks(view)
        return mean_where(label_loss(view, view.logits_of(exchange_regions(view.images, masks, has_mask))), has_mask)


@torch.no_grad()
def exchange_regions(images: Tensor, masks: Tensor, has_mask: Tensor) -> Tensor:
    """Replace the region of each image (N, C, H, W) by that of the next image with a region.

    Images without a region stay as they are.

    Args:
        images: (N, C, H, W).
        masks: (N, 1, H, W) in [0, 1], 0 where an image has no region.
        has_mask: (N,) 1.0 where it has one.
    """
    order = has_mask.argsort(descending=True, stable=True)  # images with a region first
    successor = has_mask.cumsum(0) % has_mask.sum().clamp(min=1)
    donors = order[successor.long()]
    background = fill(images, 1 - masks)
    donor_masks = masks[donors] * has_mask[:, None, None, None]
    return background + donor_masks * (images[donors] - background)


def label_loss(view: View, logits: Tensor) -> Tensor:
    """Compute the cross-entropy (N,) of the view's labels for logits (N, K).

    For multi-label targets it is the mean binary cross-entropy of the view's columns.
    """
    if not view.multi_label:
        return F.cross_entropy(logits, view.classes_of(view.labels.argmax(1)), reduction="none")
    columns = logits if view.classes is None else logits.gather(1, view.classes)
    return F.binary_cross_entropy_with_logits(columns, view.labels, reduction="none").mean(1)

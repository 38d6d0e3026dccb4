"""Exchange: what lies in a region may be another image's, and the decision stays.

Forbid speaks of the map, and a network can obey it and go on deciding by what it sees from the cells beside. Where a
region always agrees with the label, nothing in the images themselves speaks against using it. Exchange makes images in
which it does not: the region is in-painted from what is around it, and another image's region laid on top.

    x'_i = b_i (1 - m_j) + x_j m_j,   b_i = x_i in-painted inside m_i,   j = the next image of the batch with a region

After background exchange in Xiao et al., Noise or Signal (arXiv 2006.09994), there of all that is not the object.

Limits: what the in-painting leaves can be seen by a network; a region as large as the object takes the object away.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.knowledge.backgrounds import fill
from interp_core.knowledge.regions import Located, Where
from interp_core.knowledge.term import mean_where, terms
from interp_core.knowledge.view import View


@terms.register("exchange")
class Exchange(Located):
    """The decision stays when a region is exchanged for another image's: cross-entropy of the labels, in nats.

    Costs one pass. A mean over the images that have the region.
    """

    weight: float = Field(1.0, ge=0)
    region: Where = "irrelevant"

    @property
    def passes(self) -> int:
        """One more."""
        return 1

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        masks, has = self.masks(view)
        return mean_where(labelled(view, view.answer(exchanged(view.images, masks, has))), has)


@torch.no_grad()
def exchanged(images: Tensor, masks: Tensor, has: Tensor) -> Tensor:
    """Images (N, C, H, W) with their regions in-painted and those of the next image that has one laid on top.

    Images without a region stay as they are.

    Args:
        images: (N, C, H, W).
        masks: (N, 1, H, W) in [0, 1], 0 where an image has no region.
        has: (N,) 1.0 where it has one.
    """
    order = has.argsort(descending=True, stable=True)  # images that have one come first
    place = has.cumsum(0) % has.sum().clamp(min=1)
    other = order[place.long()]
    behind = fill(images, 1 - masks)
    laid = masks[other] * has[:, None, None, None]
    return behind + laid * (images[other] - behind)


def labelled(view: View, logits: Tensor) -> Tensor:
    """Cross-entropy (N,) of the view's labels for logits (N, K); of each column for itself where several may hold."""
    if not view.several:
        return F.cross_entropy(logits, view.classes_of(view.labels.argmax(1)), reduction="none")
    own = logits if view.classes is None else logits.gather(1, view.classes)
    return F.binary_cross_entropy_with_logits(own, view.labels, reduction="none").mean(1)

"""Own order: the network's own map must rank pixels so that upper parts suffice for the decision and no lower does.

Contributions that were carried to the pixels (`interp_core.lap.redistribution`) are cut at a share q of the image,
drawn anew for each image and step,

    m = sigmoid((log(0.02 + u) - t_q) / softness),   u = max(0, map) / mean max(0, map),  t_q the (1 - q) quantile
    -log p_k(m x + (1 - m) b)  -  log(1 - p_k((1 - m) x + m b))

with q = 0.02 + largest * v^power, v even in [0, 1): small parts are drawn more often. Gradient reaches the window
weights of the redistribution, and gates that take part in them, through m. The network does not learn from this term:
its weights are constant in these passes, and so are the contributions that are moved. `price` adds the share of the
evidence that learned scores have moved, summed over the levels,

    price * sum_l |R_l - R_l(s_l = 0)|_1 / (2 |R_L|_1)

so that evidence moves only where that pays.

The loss is that of `Order`, which has its sources. That map is free; this one can only move what the head's
contributions hold, within their windows.

Limits: it trains what pixel-removal metrics measure. Judge by metrics of another kind too.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.knowledge.order import MARGIN, cut_at, draw_evenly, mix_with_background
from interp_core.knowledge.term import TINY, Term, mean_where, terms
from interp_core.knowledge.view import MovedClass, View
from interp_core.lap.odds import log_odds

FLOOR = 0.02  # in units of the mean of the positive part


@terms.register("own_order")
class OwnOrder(Term):
    """The order of the network's own map, judged by cuts at random levels: nats. Costs two passes.

    Fields:
        background: replacement of the part taken away: "zero" (the data's mean colour in normalised images),
            "blur", or "any", one of the two, drawn each step and for each part.
        sigma: of the blur, as a share of the longer side, in (0, 1].
        softness: width of the edge of the cut, in nats of the map, > 0.
        largest: largest share of the image above the cut, in (0, 1].
        power: how much more often small parts are drawn, > 0.
        price: of moving evidence, >= 0, in nats for all of it.
        share: part of the images that is cut, in (0, 1]; the first of a batch, which is in random order. The cost of
            the term is proportional to it.
    """

    weight: float = Field(1.0, ge=0)
    background: Literal["zero", "blur", "any"] = "any"
    sigma: float = Field(0.1, gt=0, le=1)
    softness: float = Field(0.25, gt=0)
    largest: float = Field(0.6, gt=0, le=1)
    power: float = Field(1.5, gt=0)
    price: float = Field(0.3, ge=0)
    share: float = Field(1.0, gt=0, le=1)

    @property
    def passes(self) -> int:
        """Two."""
        return 2

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        count = math.ceil(self.share * len(view.images))
        moved = view.move_class(self.of, count)
        maps, images = log_map(moved.map), view.images[:count]
        shares = MARGIN + self.largest * draw_evenly(count, view.generator) ** self.power
        upper = cut_at(maps, shares.clamp(max=1 - MARGIN), self.softness)
        classes = view.classes_of(moved.column)
        kept, left = self._mix(view, images, upper), self._mix(view, images, 1 - upper)

        def loss_kept(logits: Tensor, rows: slice) -> Tensor:
            return F.softplus(-log_odds(logits, classes[rows], view.multi_label))

        def loss_left(logits: Tensor, rows: slice) -> Tensor:
            return F.softplus(log_odds(logits, classes[rows], view.multi_label))

        loss = mean_where(view.values_of(kept, loss_kept) + view.values_of(left, loss_left), moved.present)
        return loss + self.price * mean_where(share_moved(moved), moved.present) if self.price else loss

    def _mix(self, view: View, images: Tensor, keep: Tensor) -> Tensor:
        return mix_with_background(self.background, images, keep, self.sigma, view.generator)


def log_map(maps: Tensor) -> Tensor:
    """Compute log(0.02 + u) of the positive part of maps (N, 1, H, W), u in units of its mean."""
    positive = maps.clamp(min=0)
    return torch.log(FLOOR + positive / (positive.mean((1, 2, 3), keepdim=True) + TINY * maps.abs().amax() + 1e-30))


def share_moved(moved: MovedClass) -> Tensor:
    """Compute the share of the evidence that learned scores have moved, (N,), summed over levels."""
    total = moved.contributions.detach().abs().sum((1, 2, 3)).clamp(min=1e-30)
    gaps = [(level.contributions - level.unmoved).abs().sum((1, 2, 3)) for level in moved.levels]
    return torch.stack(gaps).sum(0) / (2 * total) if gaps else torch.zeros_like(total)

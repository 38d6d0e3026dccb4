"""Order: wherever a refined map is cut, its upper part suffices for the decision and its lower part does not.

Sufficiency and Necessity ask this of one region; what lies inside it and outside it they leave in any order. Here the
explanation itself, as `explain` would give it, is cut at a share q of the image that is drawn anew for each image and
step, q evenly from [0.02, 0.98]:

    m = sigmoid((log map - t_q) / (softness * spread)),  t_q the (1 - q) quantile of log map
    -log p_k(m x + (1 - m) b)  -  log(1 - p_k((1 - m) x + m b))

so that in the mean over q it is the areas under an insertion and a deletion curve, of log odds, that descend. Spread is
half the distance between the 16 % and 84 % quantiles, so that scale and offset of the map do not matter and the size
of the region is not moved; gradient reaches the effects r alone, not the region M. Since cuts do not see the scale,
max(0, |log(mean effect / 0.1)| - log 10)^2 keeps it where the effects begin, between 0.01 and 1; without it maps grow
by orders of magnitude.

After insertion and deletion (Petsiuk et al., RISE, arXiv 1806.07421) and the areas that are given, not learned, of
extremal perturbations (Fong et al., arXiv 1910.08485); amortised, with the cut drawn, the form is ours.

Limit: it teaches what the metrics that remove pixels ask, with their own replacement where `background` is "zero";
compare metrics of another kind too. Needs thousands of image views (results/method/log.md).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.errors import ContractError
from interp_core.knowledge.backgrounds import background
from interp_core.knowledge.masking import log_odds
from interp_core.knowledge.term import Term, mean_where, terms
from interp_core.knowledge.view import View
from interp_core.lap.refine import OUTSIDE, combined, detail

LEAST = 0.02  # share of the image that is always on either side of the cut
POINTS = 4096  # of a map that its quantiles are taken from, at least half of them
TINY = 1e-6
SCALE, FACTOR = 0.1, 10.0  # of the mean effect, and how far it may be from there


@terms.register("order")
class Order(Term):
    """What a refined map puts first suffices, what it puts last does not, wherever it is cut: nats; two passes.

    Fields:
        background: what stands in for the part taken away: "zero" (the data's mean colour in normalised images),
            "blur", or "any", one of the two, drawn each step and for each part.
        sigma: of the blur, as a share of the longer side, in (0, 1].
        softness: width of the edge of the cut, in units of the map's spread, > 0.
    """

    needs_refiner: ClassVar[bool] = True
    weight: float = Field(1.0, ge=0)
    background: Literal["zero", "blur", "any"] = "any"
    sigma: float = Field(0.1, gt=0, le=1)
    softness: float = Field(0.3, gt=0)

    @property
    def passes(self) -> int:
        """Two more."""
        return 2

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class.

        Raises:
            ContractError: the model does not refine its maps.
        """
        drawn = view.drawn(self.of)
        if drawn.effects is None:
            raise ContractError("order teaches a refined map: attach LAP with refine=True")
        upper = cut(logarithm(view, drawn.maps, drawn.effects, drawn.level), view.generator, self.softness)
        classes = view.classes_of(drawn.column)
        kept = log_odds(view.answer(self.mixed(view, upper)), classes, view.several)
        lost = log_odds(view.answer(self.mixed(view, 1 - upper)), classes, view.several)
        return mean_where(F.softplus(-kept) + F.softplus(lost) + drift(drawn.effects), drawn.there)

    def mixed(self, view: View, keep: Tensor) -> Tensor:
        """Images where `keep` (N, 1, H, W) is 1, the background where it is 0."""
        name = self.background
        if name == "any":
            name = "zero" if int(torch.randint(2, (), generator=view.generator)) else "blur"
        if name == "zero":
            return keep * view.images
        behind = background(name, view.images, keep.detach(), self.sigma)
        return behind + keep * (view.images - behind)


def logarithm(view: View, region: Tensor, effects: Tensor, level: str) -> Tensor:
    """Log of the explanation at input resolution, (N, 1, H, W) float32, with gradient to its effects alone.

    Args:
        view: whose images are explained.
        region: M in [0, 1], (N, 1, h, w).
        effects: r of the same shape.
        level: whose grid they lie on.
    """
    maps = view.placed(combined(region.detach().float(), effects.float()), level)
    return torch.log(maps + TINY) + torch.log(detail(view.images))


def drift(effects: Tensor) -> Tensor:
    """What is to be paid for effects (N, 1, h, w) whose mean is out of the range they begin in, (N,); else 0."""
    mean = combined(torch.full_like(effects, 1 - OUTSIDE), effects).float().mean((1, 2, 3))
    return F.relu(torch.log((mean + TINY) / SCALE).abs() - math.log(FACTOR)).square()


def cut(maps: Tensor, generator: torch.Generator | None, softness: float) -> Tensor:
    """Soft masks (N, 1, H, W) that are 1 in the upper q of maps of that shape; q is spread evenly over the batch.

    Args:
        maps: of any scale.
        generator: of q, on the CPU.
        softness: of the edge, in units of the spread.
    """
    flat = maps.detach().flatten(1)
    points = flat[:, :: max(1, flat.shape[1] // POINTS)].sort(1).values
    last = points.shape[1] - 1
    even = (torch.arange(len(maps)) + torch.rand(len(maps), generator=generator)) / len(maps)
    shares = LEAST + (1 - 2 * LEAST) * even
    places = ((1 - shares) * last).long()[:, None].to(points.device)
    level = points.gather(1, places)[..., None, None]
    spread = (points[:, round(0.84 * last)] - points[:, round(0.16 * last)])[:, None, None, None] / 2
    return torch.sigmoid((maps - level) / (softness * spread + TINY))

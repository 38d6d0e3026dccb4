"""Order: the map must rank pixels so that every upper part suffices for the decision and no lower part does.

Sufficiency and Necessity constrain one region and leave the order inside and outside it open. Here the explanation
itself, as `explain` returns it, is cut at a share q of the image, drawn anew for each image and step, q evenly from
[0.02, 0.98]:

    m = sigmoid((log map - t_q) / (softness * spread)),  t_q the (1 - q) quantile of log map
    -log p_k(m x + (1 - m) b)  -  log(1 - p_k((1 - m) x + m b))

In the mean over q the two terms are the areas under an insertion and a deletion curve, of log odds. Spread is half the
distance between the 16 % and 84 % quantiles, so scale and offset of the map do not matter. Gradient reaches the effects
r only, not the region M, so the size of the region does not change.

Cuts do not see the scale of the effects, and without a penalty they grow by orders of magnitude. The penalty
max(0, |log(mean effect / 0.1)| - log 10)^2 keeps their mean between 0.01 and 1, where it starts.

After insertion and deletion (Petsiuk et al., RISE, arXiv 1806.07421) and the fixed areas of extremal perturbations
(Fong et al., arXiv 1910.08485). The amortised form, with the cut drawn, is ours.

Limits: the term trains what pixel-removal metrics measure, with their own replacement where `background` is "zero".
Judge such a model by metrics of another kind too. It needs thousands of image views (results/method/log.md).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.errors import ContractError
from interp_core.knowledge.backgrounds import make_background
from interp_core.knowledge.term import TINY, Term, mean_where, terms
from interp_core.knowledge.view import View
from interp_core.lap.odds import log_odds
from interp_core.lap.redistribution import detail
from interp_core.lap.refine import OUTSIDE, combine

MARGIN = 0.02  # share of the image that is always on either side of the cut
MAX_POINTS = 4096  # number of map positions that quantiles are taken from, at least half of it
START_SCALE, MAX_FACTOR = 0.1, 10.0  # mean effect at the start, and the factor it may move from there


@terms.register("order")
class Order(Term):
    """The order of a refined map, judged by cuts at random levels: nats. Costs two passes.

    Fields:
        background: replacement of the part taken away: "zero" (the data's mean colour in normalised images),
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
        """Two."""
        return 2

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class.

        Raises:
            ContractError: the model does not refine its maps.
        """
        sample, effects = view.sample_class(self.of), view.effects(self.of)
        if effects is None:
            raise ContractError("order teaches a refined map: attach LAP with refine=True")
        maps = log_explanation(view, view.finest_maps(self.of), effects, view.finest_level)
        shares = MARGIN + (1 - 2 * MARGIN) * draw_evenly(len(maps), view.generator)
        upper = cut_at(maps, shares, self.softness * spread_of(maps))
        classes = view.classes_of(sample.column)
        insertion, deletion = (
            log_odds(view.logits_of(self._mix(view, keep)), classes, view.multi_label) for keep in (upper, 1 - upper)
        )
        loss = F.softplus(-insertion) + F.softplus(deletion) + scale_penalty(effects)
        return mean_where(loss, sample.present)

    def _mix(self, view: View, keep: Tensor) -> Tensor:
        return mix_with_background(self.background, view.images, keep, self.sigma, view.generator)


def mix_with_background(
    name: Literal["zero", "blur", "any"], images: Tensor, keep: Tensor, sigma: float, generator: torch.Generator | None
) -> Tensor:
    """Mix images (N, C, H, W), where `keep` (N, 1, H, W) is 1, with a background, where it is 0.

    Args:
        name: "zero", "blur", or "any", one of the two, drawn.
        images: normalised.
        keep: in [0, 1].
        sigma: of the blur, as a share of the longer side.
        generator: on the CPU.
    """
    if name == "any":
        name = "zero" if int(torch.randint(2, (), generator=generator)) else "blur"
    if name == "zero":
        return keep * images
    background = make_background(name, images, keep.detach(), sigma)
    return background + keep * (images - background)


def log_explanation(view: View, region: Tensor, effects: Tensor, level: str) -> Tensor:
    """Compute the log of the explanation at input resolution, (N, 1, H, W) float32.

    Gradient reaches the effects only.

    Args:
        view: the view whose images are explained.
        region: M in [0, 1], (N, 1, h, w).
        effects: r of the same shape.
        level: the level on whose grid they lie.
    """
    maps = view.to_image_grid(combine(region.detach().float(), effects.float()), level)
    return torch.log(maps + TINY) + torch.log(detail(view.images))


def scale_penalty(effects: Tensor) -> Tensor:
    """Penalise effects (N, 1, h, w) whose mean left the range [0.01, 1], (N,); 0 inside it."""
    mean = combine(torch.full_like(effects, 1 - OUTSIDE), effects).float().mean((1, 2, 3))
    return F.relu(torch.log((mean + TINY) / START_SCALE).abs() - math.log(MAX_FACTOR)).square()


def draw_evenly(count: int, generator: torch.Generator | None) -> Tensor:
    """Draw numbers (count,) in [0, 1), one in each of as many equal intervals."""
    return (torch.arange(count) + torch.rand(count, generator=generator)) / count


def cut_at(maps: Tensor, shares: Tensor, softness: Tensor | float) -> Tensor:
    """Make soft masks (N, 1, H, W), 1 in the upper share of each map.

    Args:
        maps: (N, 1, H, W), of any scale.
        shares: of the image above the cut, (N,) in (0, 1).
        softness: width of the edge in units of the map, a number or (N, 1, 1, 1).
    """
    points = _sorted_points(maps)
    index = ((1 - shares) * (points.shape[1] - 1)).long()[:, None].to(points.device)
    level = points.gather(1, index)[..., None, None]
    return torch.sigmoid((maps - level) / (softness + TINY))


def spread_of(maps: Tensor) -> Tensor:
    """Compute half the distance between the 16 % and 84 % quantiles of each map, (N, 1, 1, 1)."""
    points = _sorted_points(maps)
    last = points.shape[1] - 1
    return (points[:, round(0.84 * last)] - points[:, round(0.16 * last)])[:, None, None, None] / 2


def _sorted_points(maps: Tensor) -> Tensor:
    """Return at most about `MAX_POINTS` values of each map in ascending order, (N, points)."""
    flat = maps.detach().flatten(1)
    return flat[:, :: max(1, flat.shape[1] // MAX_POINTS)].sort(1).values

"""Two knowledge terms of this experiment.

Barred: no part of any logit comes through a region. Forbid speaks of the map shown, concept score times contribution,
and a network can obey by a low score where it goes on deciding by.

Exchange: what is not evidence may be exchanged for another image's. A network can also obey by looking at the tag from
cells beside it, against which nothing in training speaks, since tag and object always agree. Exchange makes images in
which they do not: the object of one, cut out by the model's own concept map, before what is left of another without
its object. It needs no masks; that the maps lie on objects is what Region teaches from a few.

After background exchange in Xiao et al., Noise or Signal (arXiv 2006.09994), there with given masks; ours is the use
of the model's own maps within training.

Limits: Barred counts what passes through a cell, not what the cell looks at. Where a map lies on the tag, the tag is
taken along, so that without knowledge Exchange changes nothing.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.knowledge import Term, View
from interp_core.knowledge.backgrounds import fill
from interp_core.knowledge.base import mean_where
from interp_core.knowledge.located import Located, Where, share_inside

EDGE = 0.05


class Barred(Located):
    """Nothing is decided inside a region: sum over classes of |C_k| inside / sum of |C_k|, a share in [0, 1].

    C are signed contributions to all logits. A mean over the images that have the region.
    """

    name: ClassVar[str] = "barred"
    weight: float = Field(1.0, ge=0)
    region: Where = "irrelevant"

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        masks, has = self.masks(view)
        through = view.evidence.abs().sum(1, keepdim=True)
        return mean_where(share_inside(through, masks, view.head())[:, 0], has)


class Exchange(Term):
    """The evidence keeps the decision before another image's rest: -log p_k(M x + (1 - M) rest of x'), in nats.

    M is the present class' concept map over its largest value, cut at a level drawn evenly from `levels`; the rest of
    another image of the batch is that image with its own M filled from what is around it. Costs one pass.

    Fields:
        levels: lowest and highest level, shares of a map's largest value.
    """

    name: ClassVar[str] = "exchange"
    weight: float = Field(1.0, ge=0)
    levels: tuple[float, float] = (0.2, 0.6)

    @property
    def passes(self) -> int:
        """One more."""
        return 1

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        column, there = view.draw(view.head(self.of))
        chosen = view.maps.gather(1, column[:, None, None, None].expand(-1, 1, *view.maps.shape[2:]))
        masks = self.cut(view.placed(chosen), view.generator)
        with torch.no_grad():
            rest = fill(view.images, 1 - masks).roll(1, 0)
        logits = view.answer(rest + masks * (view.images - rest))
        losses = F.cross_entropy(logits, view.classes_of(column), reduction="none")
        return (losses * there).sum() / there.sum().clamp(min=1)

    def cut(self, maps: Tensor, generator: torch.Generator | None) -> Tensor:
        """Masks (N, 1, H, W) in [0, 1] of concept maps (N, 1, H, W)."""
        low, high = self.levels
        level = low + (high - low) * torch.rand(len(maps), 1, 1, 1, generator=generator).to(maps)
        top = maps.amax((2, 3), keepdim=True).clamp(min=1e-6)
        return torch.sigmoid((maps / top - level) / EDGE)

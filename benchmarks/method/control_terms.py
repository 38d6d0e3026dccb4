"""A knowledge term of this experiment: what is not evidence may be exchanged for another image's.

Forbid and Region say where evidence lies, and a network can obey with features that look at the tag from a cell beside
it. In training nothing speaks against that, since tag and object always agree. Exchange makes images in which they do
not: the object of one, cut out by the model's own concept map, before what is left of another without its object. It
needs no masks; that the maps lie on objects is what Region teaches from a few.

After background exchange in Xiao et al., Noise or Signal (arXiv 2006.09994), there with given masks; ours is the use
of the model's own maps within training.

Limit: where a map lies on the tag, the tag is taken along, so that without knowledge the term changes nothing.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.knowledge import Term, View
from interp_core.knowledge.backgrounds import fill

EDGE = 0.05


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

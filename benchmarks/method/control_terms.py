"""A knowledge term of this experiment: Barred, no part of any logit comes through a region.

Forbid speaks of the map shown, concept score times contribution, and a network can obey by a low score where it goes
on deciding by.

Limit: it counts what passes through a cell, not what the cell looks at.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from interp_core.knowledge import View
from interp_core.knowledge.base import mean_where
from interp_core.knowledge.located import Located, Where, share_inside


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

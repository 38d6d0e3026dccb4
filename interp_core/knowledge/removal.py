"""Removal: what a refined map says of a place is what the logit loses when that place is removed.

Some square patches of each image are taken away, one at a time, and the network is asked again. What it answers, by no
map's leave, is the target of the effects r that the model's own refiner gives in its forward pass:

    mean_{p in T} r(p)  ->  asinh(d_T / tau) / asinh(1 / tau),   d_T = logit_k(x) - logit_k(x without T)

for patches T with corners drawn evenly, cut at the border; asinh keeps sign and order and lets the many small effects
count beside the few large ones. No gradient goes through the answers. It teaches order within the region that
Sufficiency and Necessity find, and what speaks against the class, which they do not see.

Occlusion (Zeiler and Fergus, ECCV 2014) as a target, amortised in the manner of FastSHAP (Jethani et al., arXiv
2107.07436), who regress on random subsets; single patches are a target of far less variance (results/method/log.md).

Limits: one patch at a time says nothing of evidence that is there twice; the effects are of the size of the patch.
A few hundred photographs are too few: what is learned from them is noise (results/method/log.md).
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
from interp_core.knowledge.term import Term, mean_where, terms
from interp_core.knowledge.view import Drawn, View


@terms.register("removal")
class Removal(Term):
    """The effects a refined map gives a patch are what removing it costs: smooth L1, of logits on an asinh scale.

    Costs one pass without gradient of `patches` times the images. Needs a model that refines its maps.

    Fields:
        patches: of each image and step, >= 1.
        side: of a patch, as a share of the image's shorter side, in (0, 1].
        tau: logits beyond which effects count by their logarithm, > 0.
        background: what stands in for a patch: "zero" (the data's mean colour in normalised images), "blur", "fill"
            (in-painted) or "mean" (the image's mean colour).
        sigma: of the blur, as a share of the longer side, in (0, 1].
    """

    needs_refiner: ClassVar[bool] = True
    weight: float = Field(10.0, ge=0)
    patches: int = Field(8, ge=1)
    side: float = Field(0.125, gt=0, le=1)
    tau: float = Field(0.1, gt=0)
    background: Literal["zero", "blur", "fill", "mean"] = "zero"
    sigma: float = Field(0.1, gt=0, le=1)

    @property
    def passes(self) -> int:
        """One more."""
        return 1

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class.

        Raises:
            ContractError: the model does not refine its maps.
        """
        drawn = view.drawn(self.of)
        if drawn.effects is None:
            raise ContractError("removal teaches a refined map: attach LAP with refine=True")
        taken = drawn_patches(view.images, self.patches, self.side, view.generator)
        effects = view.placed(drawn.effects, drawn.level)
        said = (taken * effects).sum((2, 3)) / taken.sum((2, 3))
        found = squashed(self.lost(view, drawn, taken), self.tau)
        return mean_where(F.smooth_l1_loss(said, found, reduction="none").mean(1), drawn.there)

    @torch.no_grad()
    def lost(self, view: View, drawn: Drawn, taken: Tensor) -> Tensor:
        """What the drawn class' logit loses without each patch (N, T, H, W) of 1.0 in it and 0.0 around, (N, T)."""
        images = view.images.detach()
        patches = taken.flatten(0, 1)[:, None]
        repeated = images.repeat_interleave(taken.shape[1], 0)
        shown = repeated * (1 - patches)
        if self.background != "zero":
            shown = shown + patches * background(self.background, repeated, 1 - patches, self.sigma)
        classes = view.classes_of(drawn.column)[:, None]
        without = view.answer(shown).gather(1, classes.repeat_interleave(taken.shape[1], 0))
        return view.logits.detach().gather(1, classes) - without.view(taken.shape[:2])


def drawn_patches(images: Tensor, count: int, side: float, generator: torch.Generator | None) -> Tensor:
    """Square patches (N, count, H, W) of 1.0 with corners drawn evenly, at least half of each side inside the image.

    Args:
        images: (N, C, H, W).
        count: of each image.
        side: share of the shorter side.
        generator: on the CPU.
    """
    height, width = images.shape[-2:]
    length = max(1, round(side * min(height, width)))
    inside = []
    for size in (height, width):
        first = torch.randint(
            -(length // 2), size - (length + 1) // 2 + 1, (len(images), count, 1), generator=generator
        )
        place = torch.arange(size) - first
        inside.append((place >= 0) & (place < length))
    return (inside[0][..., None] & inside[1][..., None, :]).to(images)


def squashed(values: Tensor, tau: float) -> Tensor:
    """asinh(values / tau) / asinh(1 / tau): odd, 1 at 1, linear below tau and logarithmic beyond."""
    return torch.asinh(values / tau) / math.asinh(1 / tau)

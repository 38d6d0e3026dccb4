"""Removal: the effects of a refined map must predict how much the logit drops when a patch is removed.

Some square patches of each image are removed, one at a time, and the network runs on each result. The change of its
logit is the target of the effects r that the model's own refiner predicts in its forward pass:

    mean_{p in T} r(p)  ->  asinh(d_T / tau) / asinh(1 / tau),   d_T = logit_k(x) - logit_k(x without T)

for patches T with corners drawn evenly, clipped at the border. asinh keeps sign and order, and lets the many small
effects count beside the few large ones. The further passes carry no gradient. The term teaches the order inside the
region that Sufficiency and Necessity find, and the evidence against the class, which they do not see.

The target is occlusion (Zeiler and Fergus, ECCV 2014), amortised in the manner of FastSHAP (Jethani et al., arXiv
2107.07436), who regress on random subsets. Single patches are a target of far less variance (results/method/log.md).

Limits: one patch at a time misses evidence that the image shows twice. Effects are as coarse as the patch. A few
hundred photographs are too few: the effects learned from them are noise (results/method/log.md).
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
from interp_core.knowledge.term import Term, mean_where, terms
from interp_core.knowledge.view import SampledClass, View


@terms.register("removal")
class Removal(Term):
    """Predicted against measured effects of removing patches: smooth L1, of logits on an asinh scale.

    Costs one pass without gradient of `patches` times the images. Needs a model that refines its maps.

    Fields:
        patches: patches of each image and step, >= 1.
        side: side of a patch, as a share of the image's shorter side, in (0, 1].
        tau: logits beyond which effects count by their logarithm, > 0.
        background: replacement of a patch: "zero" (the data's mean colour in normalised images), "blur", "fill"
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
        """One."""
        return 1

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class.

        Raises:
            ContractError: the model does not refine its maps.
        """
        sample, effects = view.sample_class(self.of), view.effects(self.of)
        if effects is None:
            raise ContractError("removal teaches a refined map: attach LAP with refine=True")
        patches = sample_patches(view.images, self.patches, self.side, view.generator)
        on_images = view.to_image_grid(effects, view.finest_level)
        predicted = (patches * on_images).sum((2, 3)) / patches.sum((2, 3))
        measured = compress(self.logit_drop(view, sample, patches), self.tau)
        return mean_where(F.smooth_l1_loss(predicted, measured, reduction="none").mean(1), sample.present)

    @torch.no_grad()
    def logit_drop(self, view: View, sample: SampledClass, patches: Tensor) -> Tensor:
        """Measure the drop (N, T) of the sampled class' logit without each patch.

        Args:
            view: the view of the step.
            sample: the class of each image.
            patches: (N, T, H, W), 1.0 inside the patch and 0.0 around it.
        """
        images = view.images.detach()
        masks = patches.flatten(0, 1)[:, None]
        repeated = images.repeat_interleave(patches.shape[1], 0)
        occluded = repeated * (1 - masks)
        if self.background != "zero":
            occluded = occluded + masks * make_background(self.background, repeated, 1 - masks, self.sigma)
        classes = view.classes_of(sample.column)[:, None]
        logits = view.logits_of(occluded).gather(1, classes.repeat_interleave(patches.shape[1], 0))
        return view.logits.detach().gather(1, classes) - logits.view(patches.shape[:2])


def sample_patches(images: Tensor, count: int, side: float, generator: torch.Generator | None) -> Tensor:
    """Draw square patches (N, count, H, W) of 1.0, at least half of each side inside the image.

    Args:
        images: (N, C, H, W).
        count: patches of each image.
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
        offset = torch.arange(size) - first
        inside.append((offset >= 0) & (offset < length))
    return (inside[0][..., None] & inside[1][..., None, :]).to(images)


def compress(values: Tensor, tau: float) -> Tensor:
    """Compute asinh(values / tau) / asinh(1 / tau): odd, 1 at 1, linear below tau and logarithmic beyond."""
    return torch.asinh(values / tau) / math.asinh(1 / tau)

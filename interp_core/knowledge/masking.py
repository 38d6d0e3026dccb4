"""Terms on a masked image: Sufficiency and Necessity.

Each draws one present class an image and makes a soft mask M at input resolution: of the class' refined map, or of its
concept map where the model does not refine. The same model then runs on the masked image: one further pass, forward
and backward, for each term. Gradient reaches the maps through the mixture M x + (1 - M) b, not through the background
b, and the network through its logits.

After masking objectives such as Fong and Vedaldi's (arXiv 1704.03296), Dabkowski and Gal's (arXiv 1705.07857) and
GAIN's (Li et al., CVPR 2018), in one model and with masks from its own forward pass; the form is ours.

Limits: masked images are outside the training data, so the logits judge mask and background together. By default the
background changes from step to step.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.knowledge.backgrounds import make_background
from interp_core.knowledge.term import Term, mean_where, terms
from interp_core.knowledge.view import View
from interp_core.lap.odds import log_odds

EDGE = 0.05  # width of the edge of a cut mask


class MaskingTerm(Term):
    """Base class of both terms.

    Fields:
        background: replacement of the part taken away: "blur", "fill" (in-painted from what is kept), "mean" (the
            image's mean colour), or "any": blur or fill, drawn each step.
        sigma: of the blur, as a share of the longer side, in (0, 1].
        mask: "soft" for M itself, or "cut" at a level u drawn evenly from [0, 1] for each image: sigmoid((M - u) /
            0.05), about 1 where M > u. A soft mask that is a little open everywhere shows the whole image in low
            contrast, which may be enough for the decision; cut, it shows all or nothing.
        share: part of the images that is masked, in (0, 1]; the first of a batch, which is in random order. The cost
            of the term is proportional to it.
    """

    background: Literal["blur", "fill", "mean", "any"] = "any"
    sigma: float = Field(0.1, gt=0, le=1)
    mask: Literal["soft", "cut"] = "soft"
    share: float = Field(1.0, gt=0, le=1)

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def sample_masks(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a class for each image and make its mask.

        Returns:
            Masks (n, 1, H, W), classes (n,), and 1.0 where the image has a class, (n,).
        """
        sample = view.sample_class(self.of)
        count = math.ceil(self.share * len(sample.present))
        masks = view.to_image_grid(view.finest_maps(self.of)[:count], view.finest_level)
        if self.mask == "cut":
            levels = torch.rand(len(masks), 1, 1, 1, generator=view.generator).to(masks)
            masks = torch.sigmoid((masks - levels) / EDGE)
        return masks, view.classes_of(sample.column)[:count], sample.present[:count]

    def mix(self, view: View, keep: Tensor) -> Tensor:
        """Mix the first n images, where `keep` (n, 1, H, W) is 1, with a background, where it is 0."""
        images = view.images[: len(keep)]
        name = self.background
        if name == "any":
            name = "blur" if int(torch.randint(2, (), generator=view.generator)) else "fill"
        background = make_background(name, images, keep.detach(), self.sigma)
        return background + keep * (images - background)


@terms.register("sufficiency")
class Sufficiency(MaskingTerm):
    """The decision on the masked region alone: -log p_k(M x + (1 - M) b), in nats. Costs one pass.

    p is the softmax over the classes, or the class' own sigmoid for multi-label targets. With `against` "answer" it is
    KL(p(x) || p(M x + (1 - M) b)) with p(x) detached: over all classes, or of the drawn class alone for multi-label
    targets.

    Fields:
        against: what the masked image must reproduce: the "label", or the "answer" to the whole image.
    """

    weight: float = Field(0.3, ge=0)
    against: Literal["label", "answer"] = "label"

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        masks, classes, present = self.sample_masks(view)
        logits = view.logits_of(self.mix(view, masks))
        if self.against == "answer":
            target_logits = view.logits.detach()[: len(logits)]
            return mean_where(kl_divergence(target_logits, logits, classes, view.multi_label), present)
        return mean_where(F.softplus(-log_odds(logits, classes, view.multi_label)), present)


@terms.register("necessity")
class Necessity(MaskingTerm):
    """The decision without the region, which must fail: -log(1 - p_k((1 - M) x + M b)), in nats.

    Costs one pass. Computed as softplus(log odds of k), which is finite and has a gradient of at most 1, however sure
    the network is.
    """

    weight: float = Field(0.1, ge=0)

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        masks, classes, present = self.sample_masks(view)
        logits = view.logits_of(self.mix(view, 1 - masks))
        return mean_where(F.softplus(log_odds(logits, classes, view.multi_label)), present)


def kl_divergence(before: Tensor, after: Tensor, classes: Tensor, multi_label: bool) -> Tensor:
    """Compute KL(p(before) || p(after)) in nats, (N,), of logits (N, K).

    For multi-label targets it is that of one class k an image, `classes` (N,).
    """
    if multi_label:
        before, after = (logits.gather(1, classes[:, None]) for logits in (before, after))
        before, after = (torch.cat([logits, -logits], 1) for logits in (before, after))
        logs = F.logsigmoid(before), F.logsigmoid(after)
    else:
        logs = before.log_softmax(1), after.log_softmax(1)
    return (logs[0].exp() * (logs[0] - logs[1])).sum(1)

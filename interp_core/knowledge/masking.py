"""Terms that look again at a masked image: Sufficiency and Necessity.

Each draws one present class an image, makes a soft mask M of its refined map, or where the model does not refine of
its concept map, at input resolution, and lets the same
model answer once more: one further pass, forward and backward, for each term. Gradient reaches the maps through the
mixture M x + (1 - M) b, whose background b is held fixed, and the network through its answer.

After masking objectives such as Fong and Vedaldi's (arXiv 1704.03296), Dabkowski and Gal's (arXiv 1705.07857) and
GAIN's (Li et al., CVPR 2018), in one model and with masks from its own forward pass; the form is ours.

Limit: a masked image is none the network has seen, so its answer judges mask and background together; by default the
background changes from step to step.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_core.knowledge.backgrounds import background
from interp_core.knowledge.term import Term, mean_where, terms
from interp_core.knowledge.view import View

CUT = 0.05  # width of the edge of a mask that is cut


class Masked(Term):
    """What both terms share.

    Fields:
        background: what stands in for the part taken away: "blur", "fill" (in-painted from what is kept), "mean"
            (the image's mean colour), or "any": blur or fill, drawn each step.
        sigma: of the blur, as a share of the longer side, in (0, 1].
        mask: "soft" for M itself, or "cut" at a level u drawn evenly from [0, 1] for each image: sigmoid((M - u) /
            0.05), about 1 where M > u. A soft mask that is a little open everywhere shows the whole image in low
            contrast, which may be enough for the decision; cut, it shows all or nothing.
        share: part of the images that is looked at again, in (0, 1]; the first of a batch, which is in random order.
            What the term costs falls with it.
    """

    background: Literal["blur", "fill", "mean", "any"] = "any"
    sigma: float = Field(0.1, gt=0, le=1)
    mask: Literal["soft", "cut"] = "soft"
    share: float = Field(1.0, gt=0, le=1)

    @property
    def passes(self) -> int:
        """One more."""
        return 1

    def drawn(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Masks (n, 1, H, W) of the class drawn for each image, its index (n,), and 1.0 where there is one, (n,)."""
        drawn = view.drawn(self.of)
        count = math.ceil(self.share * len(drawn.there))
        masks = view.placed(drawn.maps[:count], drawn.level)
        if self.mask == "cut":
            levels = torch.rand(len(masks), 1, 1, 1, generator=view.generator).to(masks)
            masks = torch.sigmoid((masks - levels) / CUT)
        return masks, view.classes_of(drawn.column)[:count], drawn.there[:count]

    def mixed(self, view: View, keep: Tensor) -> Tensor:
        """The first n images where `keep` (n, 1, H, W) is 1, the background where it is 0."""
        images = view.images[: len(keep)]
        name = self.background
        if name == "any":
            name = "blur" if int(torch.randint(2, (), generator=view.generator)) else "fill"
        behind = background(name, images, keep.detach(), self.sigma)
        return behind + keep * (images - behind)


@terms.register("sufficiency")
class Sufficiency(Masked):
    """The evidence region alone keeps the decision: -log p_k(M x + (1 - M) b), in nats. Costs one pass.

    p is the softmax over the classes, or the class' own sigmoid where an image may show several. Against the answer,
    KL(p(x) || p(M x + (1 - M) b)) with p(x) held fixed: over all classes, or of the drawn class alone where an image
    may show several.

    Fields:
        against: what is to be kept, the "label" or the "answer" to the whole image.
    """

    weight: float = Field(0.3, ge=0)
    against: Literal["label", "answer"] = "label"

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        mask, classes, there = self.drawn(view)
        logits = view.answer(self.mixed(view, mask))
        if self.against == "answer":
            whole = view.logits.detach()[: len(logits)]
            return mean_where(divergence(whole, logits, classes, view.several), there)
        return mean_where(F.softplus(-log_odds(logits, classes, view.several)), there)


@terms.register("necessity")
class Necessity(Masked):
    """The rest alone loses the decision: -log(1 - p_k((1 - M) x + M b)), in nats. Costs one pass.

    Written softplus(log odds of k), which is finite and has a gradient of at most 1 however sure the network is.
    """

    weight: float = Field(0.1, ge=0)

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        mask, classes, there = self.drawn(view)
        logits = view.answer(self.mixed(view, 1 - mask))
        return mean_where(F.softplus(log_odds(logits, classes, view.several)), there)


def log_odds(logits: Tensor, classes: Tensor, several: bool) -> Tensor:
    """Log odds log p_k / (1 - p_k) of one class k an image, (N,).

    Args:
        logits: (N, K), K >= 2 where they are for a softmax.
        classes: (N,).
        several: whether p is a sigmoid of each logit instead of the softmax over all.
    """
    index = classes[:, None]
    own = logits.gather(1, index)[:, 0]
    return own if several else own - logits.scatter(1, index, float("-inf")).logsumexp(1)


def divergence(before: Tensor, after: Tensor, classes: Tensor, several: bool) -> Tensor:
    """KL(p(before) || p(after)) in nats, (N,), of logits (N, K); of one class k an image where `several`."""
    if several:
        before, after = (logits.gather(1, classes[:, None]) for logits in (before, after))
        before, after = (torch.cat([logits, -logits], 1) for logits in (before, after))
        logs = F.logsigmoid(before), F.logsigmoid(after)
    else:
        logs = before.log_softmax(1), after.log_softmax(1)
    return (logs[0].exp() * (logs[0] - logs[1])).sum(1)

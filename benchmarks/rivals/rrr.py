"""RRR, "right for the right reasons": a small input gradient where pixels may not matter.

    loss = cross-entropy + weight * mean_n sum_d (A_nd  d/dx_nd sum_k log p_nk)^2

A is 1 inside the region "irrelevant" and outside the region "object". For classes that do not exclude one another,
log p_k + log(1 - p_k) replaces log p_k.

Source: Ross, Hughes and Doshi-Velez, IJCAI 2017.

Known limits: a step with regions takes a second derivative; a batch without costs a plain step. The penalty is summed
over the pixels of the network's input, so its weight depends on the image size. A gradient is local: a network that has
become flat around a cue may still follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmarks.rivals.base import Rival, RivalOptions, rivals
from benchmarks.rivals.energy_loss import forbidden_pixels
from interp_core.training import decision_loss


class RrrOptions(RivalOptions):
    """Parameters of RRR.

    Fields:
        weight: weight of the penalty. Choose it on validation images in powers of ten; the default is not tuned.
    """

    weight: float = Field(10.0, ge=0)


@rivals.register("rrr")
class Rrr(Rival[RrrOptions]):
    """The backbone with a penalty on its input gradient."""

    title: ClassVar[str] = "RRR"
    source: ClassVar[str] = "Ross et al. 2017"
    needs_second_derivative: ClassVar[bool] = True

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the cross-entropy, and the penalty if regions are given."""
        forbidden = forbidden_pixels(regions)
        if forbidden is None:
            logits = self(images)
            losses = {"cross_entropy": decision_loss(logits, targets)}
            return losses | {"reasons": logits.new_zeros(())} if regions else losses
        rows, masks = forbidden
        with torch.enable_grad():  # the loss of validation images takes a gradient too
            images = images.detach().requires_grad_()
            logits = self(images)
            penalty = gradient_penalty(logits[rows], images, multi_label=targets.ndim == 2, rows=rows, masks=masks)
        return {"cross_entropy": decision_loss(logits, targets), "reasons": self.options.weight * penalty}


def gradient_penalty(logits: Tensor, images: Tensor, *, multi_label: bool, rows: Tensor, masks: Tensor) -> Tensor:
    """Average over images the squared input gradient inside masks.

    Args:
        logits: (n, K) of the images with a region.
        images: (N, C, H, W), in the graph of the logits.
        multi_label: whether an image may show several classes.
        rows: (n,) indices among the N images of those that the logits are of.
        masks: (n, 1, H, W) in [0, 1], from `forbidden_pixels`.

    Returns:
        A scalar in the graph.
    """
    logs = F.logsigmoid(logits) + F.logsigmoid(-logits) if multi_label else logits.log_softmax(1)
    (gradients,) = torch.autograd.grad(logs.sum(), images, create_graph=True)
    return (masks * gradients[rows]).square().sum((1, 2, 3)).mean()

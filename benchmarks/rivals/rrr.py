"""RRR, "right for the right reasons": the input gradient is small where nothing may matter.

    loss = cross-entropy + weight * mean_n sum_d (A_nd  d/dx_nd sum_k log p_nk)^2

A is 1 inside the region told irrelevant and outside the region told relevant ("object"). Classes that do not exclude
one another have log p_k + log(1 - p_k) in place of log p_k.
Source: Ross, Hughes and Doshi-Velez, IJCAI 2017.
Known limits: a second derivative per step with regions; a batch without costs a plain step. The penalty is summed over
pixels of images as the network takes them, so that its weight depends on their size. A gradient is local: a network
that has become flat around a cue may follow it still.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import Rival, RivalOptions, Statistics, rivals
from benchmarks.rivals.regions import wrong_places
from benchmarks.rivals.second_order import check_second_derivative
from interp_core.training import decision_loss


class RrrOptions(RivalOptions):
    """Parameters of RRR.

    Fields:
        weight: of the penalty; to be chosen on validation images in powers of ten, the default claims nothing.
    """

    weight: float = Field(10.0, ge=0)


@rivals.register("rrr")
class Rrr(Rival):
    """The backbone with a penalty on its input gradient."""

    title: ClassVar[str] = "RRR"
    source: ClassVar[str] = "Ross et al. 2017"
    Options: ClassVar[type[RivalOptions]] = RrrOptions
    options: RrrOptions

    def __init__(self, backbone: nn.Module, options: RivalOptions, statistics: Statistics | None = None) -> None:
        super().__init__(backbone, options, statistics)
        check_second_derivative(self)

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, and the penalty where regions are known."""
        found = wrong_places(regions)
        if found is None:
            logits = self(images)
            losses = {"cross_entropy": decision_loss(logits, targets)}
            return losses | {"reasons": logits.new_zeros(())} if regions else losses
        rows, wrong = found
        with torch.enable_grad():  # the loss of validation images takes a gradient too
            images = images.detach().requires_grad_()
            logits = self(images)
            penalty = reasons(logits[rows], images, several=targets.ndim == 2, rows=rows, wrong=wrong)
        return {"cross_entropy": decision_loss(logits, targets), "reasons": self.options.weight * penalty}


def reasons(logits: Tensor, images: Tensor, *, several: bool, rows: Tensor, wrong: Tensor) -> Tensor:
    """Mean over images of the squared gradient at the wrong places, a scalar in the graph.

    Args:
        logits: (n, K) of the images with a region.
        images: (N, C, H, W), in the graph of the logits.
        several: whether an image may show several classes.
        rows: (n,) which images the logits are of.
        wrong: (n, 1, H, W) in [0, 1], see `benchmarks.rivals.regions.wrong_places`.
    """
    logs = F.logsigmoid(logits) + F.logsigmoid(-logits) if several else logits.log_softmax(1)
    (gradients,) = torch.autograd.grad(logs.sum(), images, create_graph=True)
    return (wrong * gradients[rows]).square().sum((1, 2, 3)).mean()

"""CALM: the place z of the cue is a hidden variable, the map its joint probability with the class.

    p(z|x)   = relu(v . X(z)) / sum over places     1x1 convolution
    p(y|x,z) = softmax_y(W X(z) + b)                the backbone's classifier at each place
    p(y|x)   = sum_z p(y|x,z) p(z|x)                what the network answers, as log-probabilities
    map      = p(y, z|x)

ML minimises -log p(y|x). EM minimises -sum_z q(z) log p(y, z|x) with q = p(z|x,y) held constant. With q of the current
weights, as here and in the authors' code, both have one gradient:
d log sum_z p = sum_z (p / sum p) d log p, so what sets them apart is rounding alone.
Source: Kim et al., "Keep CALM and improve visual feature attribution", ICCV 2021.
Known limits: the authors raise the resolution to stride 16 or 8, here the backbone's grid stays; they hold the sum in
p(z|x) constant in the backward pass, here the likelihood is differentiated as it is. Classes exclude one another.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from benchmarks.rivals.base import MapOptions, MapRival, Parts, RivalOptions, Statistics, note, rivals
from interp_core.errors import ContractError

FLOOR = 1e-6  # of place scores: a place the ReLU shuts is next to impossible, and a map of such places is uniform


class CalmOptions(MapOptions):
    """Parameters of CALM.

    Fields:
        variant: "em" or "ml".
    """

    variant: Literal["em", "ml"] = "em"


@rivals.register("calm")
class Calm(MapRival):
    """A head that marginalises over the place of the cue."""

    title: ClassVar[str] = "CALM"
    source: ClassVar[str] = "Kim et al. 2021"
    Options: ClassVar[type[RivalOptions]] = CalmOptions
    options: CalmOptions

    def __init__(self, backbone: nn.Module, options: RivalOptions, statistics: Statistics | None = None) -> None:
        super().__init__(backbone, options, statistics)
        self.linear_head()
        self.place = nn.Conv2d(self.info.channels, 1, 1)
        nn.init.ones_(self.place.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities log p(y|x), (N, K)."""
        features, _ = self.parted(images)
        joint = self.log_joint(features)
        note(joint=joint)
        return joint.logsumexp((2, 3))

    def log_joint(self, features: Tensor) -> Tensor:
        """The joint log p(y, z|x), (N, K, h, w), of features (N, C, h, w)."""
        weight, bias = self.linear_head()
        scores = nn.functional.conv2d(features, weight[:, :, None, None], bias)
        return scores.log_softmax(1) + log_places(self.place(features))

    def decision(self, logits: Tensor, parts: Parts, targets: Tensor) -> dict[str, Tensor]:
        """Negative log-likelihood, or its bound of the E step."""
        if targets.ndim != 1:
            raise ContractError("calm takes one class per image, targets (N,): its classes exclude one another")
        if self.options.variant == "ml":
            return {"likelihood": nn.functional.nll_loss(logits, targets)}
        joint = parts["joint"].flatten(2)[torch.arange(len(targets), device=targets.device), targets]
        return {"expected_likelihood": -(joint.detach().softmax(1) * joint).sum(1).mean()}

    def cells(self, parts: Parts, labels: Tensor) -> Tensor:
        """p(y, z|x), (N, 1, h, w)."""
        joint = parts["joint"].exp()
        return (joint * labels[:, :, None, None].to(joint.dtype)).sum(1, keepdim=True)


def log_places(scores: Tensor) -> Tensor:
    """The prior log p(z|x), (N, 1, h, w), of scores (N, 1, h, w): positive parts over their sum."""
    log = (scores.relu() + FLOOR).log()
    return log - log.logsumexp((2, 3), keepdim=True)

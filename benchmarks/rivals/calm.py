"""CALM: the position z of the cue is a hidden variable, the map its joint probability with the class.

    p(z|x)   = relu(v . X(z)) / sum over positions  1x1 convolution
    p(y|x,z) = softmax_y(W X(z) + b)                the backbone's classifier at each position
    p(y|x)   = sum_z p(y|x,z) p(z|x)                the network's output, as log-probabilities
    map      = p(y, z|x)

ML minimises -log p(y|x). EM minimises -sum_z q(z) log p(y, z|x) with q = p(z|x,y) held constant. With q of the current
weights, as here and in the authors' code, both have the same gradient up to rounding:
d log sum_z p = sum_z (p / sum p) d log p.

Source: Kim et al., "Keep CALM and improve visual feature attribution", ICCV 2021.

Known limits: the authors raise the resolution to stride 16 or 8; here the backbone's grid stays. They hold the sum in
p(z|x) constant in the backward pass; here the likelihood is differentiated as it is. Classes exclude one another.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from benchmarks.rivals.base import MapOptions, MapRival, Normalisation, Notes, note, rivals
from interp_core.errors import ContractError

# Added to position scores: a shut position is next to impossible, and a map of shut positions is uniform.
FLOOR = 1e-6


class CalmOptions(MapOptions):
    """Parameters of CALM.

    Fields:
        variant: "em" or "ml".
    """

    variant: Literal["em", "ml"] = "em"


@rivals.register("calm")
class Calm(MapRival[CalmOptions]):
    """A head that marginalises over the position of the cue."""

    title: ClassVar[str] = "CALM"
    source: ClassVar[str] = "Kim et al. 2021"

    def __init__(self, backbone: nn.Module, options: CalmOptions, normalisation: Normalisation | None = None) -> None:
        super().__init__(backbone, options, normalisation)
        self.linear_head()
        self.place = nn.Conv2d(self.info.channels, 1, 1)
        nn.init.ones_(self.place.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Compute log-probabilities log p(y|x), (N, K)."""
        features, _ = self.features_and_head(images)
        joint = self.log_joint(features)
        note(joint=joint)
        return joint.logsumexp((2, 3))

    def log_joint(self, features: Tensor) -> Tensor:
        """Compute log p(y, z|x), (N, K, h, w), of features (N, C, h, w)."""
        weight, bias = self.linear_head()
        scores = nn.functional.conv2d(features, weight[:, :, None, None], bias)
        return scores.log_softmax(1) + log_prior(self.place(features))

    def class_losses(self, logits: Tensor, notes: Notes, targets: Tensor) -> dict[str, Tensor]:
        """Compute the negative log-likelihood, or its bound of the E step."""
        if targets.ndim != 1:
            raise ContractError("calm takes one class per image, targets (N,): its classes exclude one another")
        if self.options.variant == "ml":
            return {"likelihood": nn.functional.nll_loss(logits, targets)}
        joint = notes["joint"].flatten(2)[torch.arange(len(targets), device=targets.device), targets]
        return {"expected_likelihood": -(joint.detach().softmax(1) * joint).sum(1).mean()}

    def grid_maps(self, notes: Notes, labels: Tensor) -> Tensor:
        """Compute p(y, z|x), (N, 1, h, w)."""
        joint = notes["joint"].exp()
        return (joint * labels[:, :, None, None].to(joint.dtype)).sum(1, keepdim=True)


def log_prior(scores: Tensor) -> Tensor:
    """Compute log p(z|x), (N, 1, h, w), of scores (N, 1, h, w).

    p is the positive part of the scores over its sum.
    """
    log = (scores.relu() + FLOOR).log()
    return log - log.logsumexp((2, 3), keepdim=True)

"""ABN-lite: an attention branch on the final grid whose one sigmoid map weighs the features.

    M = relu(norm(branch(X)))              K maps, one per class
    auxiliary logits = mean_p(U M)         their own class loss
    A = sigmoid(norm(3x3 conv(M)))         one map for all classes
    logits = head(X (1 + A))

Source: Fukui et al., "Attention branch network", CVPR 2019.
Known limits: the lite form. The authors' branch is a second copy of the last stage at stride 1 and their map weighs
the features before that stage; here the branch is one hidden 1x1 convolution behind it, on the same grid as CAM. The
map knows no class, and the 1 in (1 + A) lets everything pass, so that it bounds nothing.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import MapOptions, MapRival, Parts, RivalOptions, Statistics, note, rivals
from interp_core.training import decision_loss


class AbnOptions(MapOptions):
    """Parameters of ABN-lite.

    Fields:
        branch_weight: of the auxiliary class loss; 1 in the paper.
    """

    branch_weight: float = Field(1.0, ge=0)


@rivals.register("abn")
class Abn(MapRival):
    """Features times one plus an attention map of a branch that classifies as well."""

    title: ClassVar[str] = "ABN-lite"
    source: ClassVar[str] = "Fukui et al. 2019"
    Options: ClassVar[type[RivalOptions]] = AbnOptions
    options: AbnOptions

    def __init__(self, backbone: nn.Module, options: RivalOptions, statistics: Statistics | None = None) -> None:
        super().__init__(backbone, options, statistics)
        channels, classes = self.info.channels, self.info.classes
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, classes, 1, bias=False),
            nn.BatchNorm2d(classes),
            nn.ReLU(),
        )
        self.vote = nn.Conv2d(classes, classes, 1, bias=False)
        self.look = nn.Sequential(nn.Conv2d(classes, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of the weighed features."""
        features, head = self.parted(images)
        maps = self.branch(features)
        attention = self.look(maps).sigmoid()
        note(attention=attention, auxiliary=self.vote(maps).mean((2, 3)))
        return head(features * (1 + attention))

    def decision(self, logits: Tensor, parts: Parts, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of both classifiers."""
        branch = self.options.branch_weight * decision_loss(parts["auxiliary"], targets)
        return {"cross_entropy": decision_loss(logits, targets), "branch": branch}

    def cells(self, parts: Parts, labels: Tensor) -> Tensor:  # noqa: ARG002
        """The attention map (N, 1, h, w) in (0, 1), the same for every class."""
        return parts["attention"]

"""ABN-lite: an attention branch on the final grid, whose one sigmoid map weights the features.

    M = relu(norm(branch(X)))              K maps, one per class
    auxiliary logits = mean_p(U M)         with their own class loss
    A = sigmoid(norm(3x3 conv(M)))         one map for all classes
    logits = head(X (1 + A))

Source: Fukui et al., "Attention branch network", CVPR 2019.

Known limits: this is a lite form. The authors' branch is a second copy of the last stage at stride 1, and their map
weights the features before that stage. Here the branch is one hidden 1x1 convolution behind it, on the grid of CAM. The
map does not depend on the class, and the 1 in (1 + A) lets every position pass, so the map bounds nothing.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import MapOptions, MapRival, Normalisation, Notes, note, rivals
from interp_core.training import decision_loss


class AbnOptions(MapOptions):
    """Parameters of ABN-lite.

    Fields:
        branch_weight: weight of the auxiliary class loss; 1 in the paper.
    """

    branch_weight: float = Field(1.0, ge=0)


@rivals.register("abn")
class Abn(MapRival[AbnOptions]):
    """Features times one plus an attention map.

    The map is made by a branch that classifies as well.
    """

    title: ClassVar[str] = "ABN-lite"
    source: ClassVar[str] = "Fukui et al. 2019"

    def __init__(self, backbone: nn.Module, options: AbnOptions, normalisation: Normalisation | None = None) -> None:
        super().__init__(backbone, options, normalisation)
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
        """Compute the logits (N, K) of the weighted features."""
        features, head = self.features_and_head(images)
        maps = self.branch(features)
        attention = self.look(maps).sigmoid()
        note(attention=attention, auxiliary=self.vote(maps).mean((2, 3)))
        return head(features * (1 + attention))

    def class_losses(self, logits: Tensor, notes: Notes, targets: Tensor) -> dict[str, Tensor]:
        """Compute the cross-entropy of both classifiers."""
        branch = self.options.branch_weight * decision_loss(notes["auxiliary"], targets)
        return {"cross_entropy": decision_loss(logits, targets), "branch": branch}

    def grid_maps(self, notes: Notes, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return the attention map (N, 1, h, w), equal for all classes."""
        return notes["attention"]

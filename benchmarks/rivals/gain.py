"""GAIN-like erasing: without the region Grad-CAM attends to, the image must lose its class.

    A      = Grad-CAM of the present classes, over its largest value
    T(A)   = sigmoid(sharpness (A - threshold))
    erased = x (1 - T(A))                      0 is the mean of normalised images
    loss   = cross-entropy + erase_weight * p(present classes | erased) + region_weight * region term

Region term: mean (A - M)^2 for the object's mask M, mean of A^2 inside a region told irrelevant.
Source: Li et al., "Tell me where to look: guided attention inference network", CVPR 2018 (GAIN and its form with
masks, whose region weight is 10); the term for irrelevant regions is ours.
Known limits: two forward passes, and a second derivative of the head; both passes feed the batch norms. The score of
the erased image is a probability here, so that it is bounded below. Explain it with `grad_cam`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import Rival, RivalOptions, Statistics, labels_of, rivals
from benchmarks.rivals.regions import TINY, known
from benchmarks.rivals.second_order import check_second_derivative, grad_cam
from interp_core.training import decision_loss


class GainOptions(RivalOptions):
    """Parameters of GAIN.

    Fields:
        erase_weight: of the class score left after erasing; 1 in the paper.
        region_weight: of the region term; 10 in the paper.
        sharpness: of the soft mask.
        threshold: of the soft mask, as a share of the map's largest value.
    """

    erase_weight: float = Field(1.0, ge=0)
    region_weight: float = Field(10.0, ge=0)
    sharpness: float = Field(10.0, gt=0)
    threshold: float = Field(0.5, ge=0, le=1)


@rivals.register("gain")
class Gain(Rival):
    """The backbone, trained to need what its Grad-CAM attends to."""

    title: ClassVar[str] = "GAIN-like"
    source: ClassVar[str] = "Li et al. 2018"
    Options: ClassVar[type[RivalOptions]] = GainOptions
    options: GainOptions

    def __init__(self, backbone: nn.Module, options: RivalOptions, statistics: Statistics | None = None) -> None:
        super().__init__(backbone, options, statistics)
        check_second_derivative(self)

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, what is left after erasing, and the region term where regions are known."""
        options, labels = self.options, labels_of(targets, self.info.classes)
        features, head = self.parted(images)
        logits, cells = grad_cam(features, head, labels)
        maps = self.placed(cells, images)
        maps = maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=TINY)
        erased = images * (1 - ((maps - options.threshold) * options.sharpness).sigmoid())
        left = left_over(self(erased), labels, several=targets.ndim == 2)
        found = {"cross_entropy": decision_loss(logits, targets), "erased": options.erase_weight * left}
        if regions:
            found["region"] = options.region_weight * misplaced(maps, regions)
        return found


def left_over(logits: Tensor, labels: Tensor, *, several: bool) -> Tensor:
    """Mean probability of the present classes, a scalar in [0, 1], of logits (N, K) and labels (N, K)."""
    probabilities = logits.sigmoid() if several else logits.softmax(1)
    return ((probabilities * labels).sum(1) / labels.sum(1).clamp(min=1)).mean()


def misplaced(maps: Tensor, regions: Mapping[str, Tensor]) -> Tensor:
    """Squared distance of maps (N, 1, H, W) in [0, 1] from regions, see `regions.known`; 0 where none is known."""
    total = maps.new_zeros(())
    for name in ("object", "irrelevant"):
        found = known(regions, name)
        if found is None:
            continue
        rows, masks = found
        if name == "object":
            total = total + (maps[rows] - masks).square().mean()
        else:
            share = (maps[rows].square() * masks).sum((1, 2, 3)) / masks.sum((1, 2, 3)).clamp(min=TINY)
            total = total + share.mean()
    return total

"""GAIN-like erasing: an image without the region of its Grad-CAM must lose its class.

    A      = Grad-CAM of the present classes, over its largest value
    T(A)   = sigmoid(sharpness (A - threshold))
    erased = x (1 - T(A))                      0 is the mean of normalised images
    loss   = cross-entropy + erase_weight * p(present classes | erased) + region_weight * region term

Region term: mean (A - M)^2 for the mask M of "object", mean of A^2 inside "irrelevant".

Source: Li et al., "Tell me where to look: guided attention inference network", CVPR 2018 (GAIN and its form with
masks, whose region weight is 10). The term for irrelevant regions is ours.

Known limits: two forward passes, and a second derivative of the head; both passes update the batch norms. The score of
the erased image is a probability here, so that it is bounded below. Explain it with `grad_cam`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from benchmarks.rivals.base import Rival, RivalOptions, labels_of, rivals
from benchmarks.rivals.energy_loss import REGIONS, TINY, select_known
from benchmarks.rivals.grad_cam import grad_cam
from interp_core.lap.odds import class_probabilities
from interp_core.training import decision_loss


class GainOptions(RivalOptions):
    """Parameters of GAIN.

    Fields:
        erase_weight: weight of the class probability after erasing; 1 in the paper.
        region_weight: weight of the region term; 10 in the paper.
        sharpness: sharpness of the soft mask.
        threshold: threshold of the soft mask, as a share of the map's largest value.
    """

    erase_weight: float = Field(1.0, ge=0)
    region_weight: float = Field(10.0, ge=0)
    sharpness: float = Field(10.0, gt=0)
    threshold: float = Field(0.5, ge=0, le=1)


@rivals.register("gain")
class Gain(Rival[GainOptions]):
    """The backbone, trained to need the region of its Grad-CAM."""

    title: ClassVar[str] = "GAIN-like"
    source: ClassVar[str] = "Li et al. 2018"
    needs_second_derivative: ClassVar[bool] = True

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute cross-entropy, erasing loss and, with regions, their term."""
        options, labels = self.options, labels_of(targets, self.info.classes)
        features, head = self.features_and_head(images)
        logits, grid_maps = grad_cam(features, head, labels)
        maps = self.to_image_grid(grid_maps, images)
        maps = maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=TINY)
        erased = images * (1 - ((maps - options.threshold) * options.sharpness).sigmoid())
        probability = mean_probability(self(erased), labels, multi_label=targets.ndim == 2)
        losses = {"cross_entropy": decision_loss(logits, targets), "erased": options.erase_weight * probability}
        if regions:
            losses["region"] = options.region_weight * region_loss(maps, regions)
        return losses


def mean_probability(logits: Tensor, labels: Tensor, *, multi_label: bool) -> Tensor:
    """Average the probability of the present classes.

    `logits` and `labels` are (N, K). The result is a scalar in [0, 1].
    """
    probabilities = class_probabilities(logits, multi_label)
    return ((probabilities * labels).sum(1) / labels.sum(1).clamp(min=1)).mean()


def region_loss(maps: Tensor, regions: Mapping[str, Tensor]) -> Tensor:
    """Compute the squared distance of maps from regions.

    Args:
        maps: (N, 1, H, W) in [0, 1].
        regions: see `energy_loss.select_known`.

    Returns:
        A scalar in the graph; 0 if no image has a mask.
    """
    total = maps.new_zeros(())
    for name in REGIONS:
        selection = select_known(regions, name)
        if selection is None:
            continue
        rows, masks = selection
        if name == "object":
            total = total + (maps[rows] - masks).square().mean()
        else:
            share = (maps[rows].square() * masks).sum((1, 2, 3)) / masks.sum((1, 2, 3)).clamp(min=TINY)
            total = total + share.mean()
    return total

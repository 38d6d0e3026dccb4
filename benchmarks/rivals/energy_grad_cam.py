"""Energy loss on Grad-CAM: a plain network whose Grad-CAM of the present classes must lie in the region.

Idea: as `cam_energy`, with Grad-CAM in place of CAM, so that any head will do; the weights of the map are gradients
and the loss takes their derivative.
Source: Rao et al., ICCV 2023 (energy loss on the attribution of a layer); Selvaraju et al., ICCV 2017.
Known limits: with a linear head behind average pooling Grad-CAM is CAM up to a factor, which the energy loss does not
see: training is then that of `cam_energy` and should not be counted twice. Explain it with `grad_cam`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import Rival, RivalOptions, Statistics, labels_of, rivals
from benchmarks.rivals.regions import wrong_places, wrong_share
from benchmarks.rivals.second_order import check_second_derivative, grad_cam
from interp_core.training import decision_loss


class EnergyGradCamOptions(RivalOptions):
    """Parameters of the energy loss on Grad-CAM.

    Fields:
        energy_weight: of the energy loss.
    """

    energy_weight: float = Field(1.0, ge=0)


@rivals.register("energy_grad_cam")
class EnergyGradCam(Rival):
    """The backbone with the energy loss on its Grad-CAM."""

    title: ClassVar[str] = "Energy on Grad-CAM"
    source: ClassVar[str] = "Rao et al. 2023; Selvaraju et al. 2017"
    Options: ClassVar[type[RivalOptions]] = EnergyGradCamOptions
    options: EnergyGradCamOptions

    def __init__(self, backbone: nn.Module, options: RivalOptions, statistics: Statistics | None = None) -> None:
        super().__init__(backbone, options, statistics)
        check_second_derivative(self)

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, and the energy loss where regions are known."""
        if wrong_places(regions) is None:
            logits = self(images)
            losses = {"cross_entropy": decision_loss(logits, targets)}
            return losses | {"energy": logits.new_zeros(())} if regions else losses
        features, head = self.parted(images)
        logits, cells = grad_cam(features, head, labels_of(targets, self.info.classes))
        energy = self.options.energy_weight * wrong_share(self.placed(cells, images), regions)
        return {"cross_entropy": decision_loss(logits, targets), "energy": energy}

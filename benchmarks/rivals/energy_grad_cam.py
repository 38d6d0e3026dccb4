"""Energy loss on Grad-CAM: a plain network whose Grad-CAM of the present classes must lie in the region.

Idea: as `cam_energy`, with Grad-CAM in place of CAM, so any head will do. The weights of the map are gradients, and the
loss takes their derivative.

Source: Rao et al., ICCV 2023 (energy loss on the attribution of a layer); Selvaraju et al., ICCV 2017.

Known limits: with a linear head behind average pooling, Grad-CAM is CAM up to a factor that the energy loss ignores.
Training is then that of `cam_energy` and must not be counted twice. Explain it with `grad_cam`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from benchmarks.rivals.base import Rival, RivalOptions, labels_of, rivals
from benchmarks.rivals.energy_loss import energy_loss, forbidden_pixels
from benchmarks.rivals.grad_cam import grad_cam
from interp_core.training import decision_loss


class EnergyGradCamOptions(RivalOptions):
    """Parameters of the energy loss on Grad-CAM.

    Fields:
        energy_weight: weight of the energy loss.
    """

    energy_weight: float = Field(1.0, ge=0)


@rivals.register("energy_grad_cam")
class EnergyGradCam(Rival[EnergyGradCamOptions]):
    """The backbone with the energy loss on its Grad-CAM."""

    title: ClassVar[str] = "Energy on Grad-CAM"
    source: ClassVar[str] = "Rao et al. 2023; Selvaraju et al. 2017"
    needs_second_derivative: ClassVar[bool] = True

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the cross-entropy, and the energy loss if regions are given."""
        if forbidden_pixels(regions) is None:
            logits = self(images)
            losses = {"cross_entropy": decision_loss(logits, targets)}
            return losses | {"energy": logits.new_zeros(())} if regions else losses
        features, head = self.features_and_head(images)
        logits, maps = grad_cam(features, head, labels_of(targets, self.info.classes))
        energy = self.options.energy_weight * energy_loss(self.to_image_grid(maps, images), regions)
        return {"cross_entropy": decision_loss(logits, targets), "energy": energy}

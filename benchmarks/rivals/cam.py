"""CAM: class weights on the last features, position by position; plain, and with the energy loss on its map.

Idea: logit_k = mean_p(W_k . X(p)) + b_k, so position p adds W_k . X(p) / (h w) to the logit. The map is the positive
part of W_k . X(p). `cam` changes nothing about the network or its training. `cam_energy` adds the energy loss; it shows
how far a loss on a map gets without LAP.

Source: Zhou et al., CVPR 2016; energy loss: Rao et al., ICCV 2023.

Known limits: the resolution is that of the last features. For an image of several classes the energy loss is on the map
of their sum.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import MapOptions, MapOptionsT, MapRival, Normalisation, Notes, note, rivals


@rivals.register("cam")
class Cam(MapRival[MapOptionsT]):
    """The backbone as it is, with the map of its linear head."""

    title: ClassVar[str] = "CAM"
    source: ClassVar[str] = "Zhou et al. 2016"

    def __init__(self, backbone: nn.Module, options: MapOptionsT, normalisation: Normalisation | None = None) -> None:
        super().__init__(backbone, options, normalisation)
        self.linear_head()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, K) of the backbone."""
        features, head = self.features_and_head(images)
        note(features=features)
        return head(features)

    def grid_maps(self, notes: Notes, labels: Tensor) -> Tensor:
        """Compute max(0, W_k . X), (N, 1, h, w)."""
        weight, _ = self.linear_head()
        features = notes["features"]
        class_weights = labels.to(features.dtype) @ weight.to(features.dtype)
        return (features * class_weights[:, :, None, None]).sum(1, keepdim=True).clamp(min=0)


class CamEnergyOptions(MapOptions):
    """Parameters of CAM with the energy loss.

    Fields:
        energy_weight: weight of the energy loss.
    """

    energy_weight: float = Field(1.0, ge=0)


@rivals.register("cam_energy")
class CamEnergy(Cam[CamEnergyOptions]):
    """CAM with the energy loss where regions are given."""

    title: ClassVar[str] = "CAM + energy"
    source: ClassVar[str] = "Zhou et al. 2016; Rao et al. 2023"

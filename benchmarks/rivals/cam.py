"""CAM: class weights on the last features, position by position; plain, and with the energy loss on its map.

Idea: logit_k = mean_p(W_k . X(p)) + b_k, so that W_k . X(p) is what position p adds to the logit, times h w; the map is
its positive part. `cam` changes nothing about the network or its training; `cam_energy` adds the energy loss and is
the control for what a loss on a map is worth without LAP.
Source: Zhou et al., CVPR 2016; energy loss: Rao et al., ICCV 2023.
Known limits: the resolution is that of the last features. Where an image shows several classes the energy loss looks
at the map of their sum.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import MapOptions, MapRival, Parts, RivalOptions, Statistics, note, rivals


@rivals.register("cam")
class Cam(MapRival):
    """The backbone as it is, with the map of its own linear head; options as in `MapOptions`."""

    title: ClassVar[str] = "CAM"
    source: ClassVar[str] = "Zhou et al. 2016"

    def __init__(self, backbone: nn.Module, options: RivalOptions, statistics: Statistics | None = None) -> None:
        super().__init__(backbone, options, statistics)
        self.linear_head()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of the backbone."""
        features, head = self.parted(images)
        note(features=features)
        return head(features)

    def cells(self, parts: Parts, labels: Tensor) -> Tensor:
        """max(0, W_k . X), (N, 1, h, w)."""
        weight, _ = self.linear_head()
        features = parts["features"]
        chosen = labels.to(features.dtype) @ weight.to(features.dtype)
        return (features * chosen[:, :, None, None]).sum(1, keepdim=True).clamp(min=0)


class CamEnergyOptions(MapOptions):
    """Parameters of CAM with the energy loss.

    Fields:
        energy_weight: of the energy loss.
    """

    energy_weight: float = Field(1.0, ge=0)


@rivals.register("cam_energy")
class CamEnergy(Cam):
    """CAM with the energy loss where regions are known."""

    title: ClassVar[str] = "CAM + energy"
    source: ClassVar[str] = "Zhou et al. 2016; Rao et al. 2023"
    Options: ClassVar[type[RivalOptions]] = CamEnergyOptions

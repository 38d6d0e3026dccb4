"""Rivals whose explainer is a module beside a plain network, and learns what another method measures or optimises.

    A_l = relu(F_l + norm(1x1 conv(F_l)))      of the maps F_l at which the last resolutions end
    S   = 1x1 conv(cat_l up(A_l))              K maps, one per class

The network learns to classify as a plain one does: no gradient of the module's losses reaches its weights. Its answers
are those of the rival `cam` or of any plain network, so the maps are an amortised external explainer of it.

The module has the form of TAME (Ntrougkas et al., ISM 2022).

Known limit: the authors of such explainers train them on a network that is finished. Here both learn at once, in the
time of one training, or the network is frozen (mode "frozen").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from baselines.support.stages import Stage, run_with_stages, stages_of
from benchmarks.rivals.base import Normalisation, OptionsT, Rival, RivalOptions
from interp_core.backbone.trace import evaluating, noise_image


class AmortisedOptions(RivalOptions):
    """Parameters of the module.

    Fields:
        maps: number of resolutions whose last map is read, from the last one upwards.
    """

    maps: int = Field(3, ge=1)


class AmortisedRival(Rival[OptionsT]):
    """A plain network, and a module that explains it.

    A subclass writes `losses` and `explain`.
    """

    def __init__(self, backbone: nn.Module, options: OptionsT, normalisation: Normalisation | None = None) -> None:
        super().__init__(backbone, options, normalisation)
        with evaluating(backbone), torch.no_grad():
            probe = noise_image(backbone, self.info.in_channels, self.info.size)
            channels = [maps.shape[1] for maps in self.read(probe)[0]]
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, count, 1, bias=False), nn.BatchNorm2d(count)) for count in channels
        )
        self.fuse = nn.Conv2d(sum(channels), self.info.classes, 1)

    def stages(self) -> list[Stage]:
        """Return the maps that the module reads, finest first."""
        count: int = getattr(self.options, "maps", 1)
        return stages_of(self.backbone)[-count:]

    def read(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Run the network; return the maps of `stages`, without a graph, and logits (N, K)."""
        maps, logits = run_with_stages(self, self.stages(), images, lambda each: each)
        return [each.detach() for each in maps], logits

    def class_maps(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute S (N, K, h, w) on the finest of the `maps`."""
        size = maps[0].shape[-2:]
        branches = [(each + branch(each)).relu() for each, branch in zip(maps, self.branches, strict=True)]
        resized = [F.interpolate(each, size, mode="bilinear", align_corners=False) for each in branches]
        scores: Tensor = self.fuse(torch.cat(resized, 1))
        return scores

    def frozen_logits(self, images: Tensor) -> Tensor:
        """Compute logits (N, K) with a gradient for the images and none for the network."""
        weights = {name: parameter.detach() for name, parameter in self.backbone.named_parameters()}
        with evaluating(self.backbone):
            logits: Tensor = torch.func.functional_call(self.backbone, weights, (images,))
        return logits

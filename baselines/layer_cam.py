"""LayerCAM: features weighted by their positive gradient, position by position.

Idea: L = ReLU(sum_c ReLU(G_c) * A_c) with G = d logit / d A.
Paper: Jiang et al., IEEE Transactions on Image Processing 2021.
Library: own code; captum has none.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused.
Known limits: computed at the last map, like every explainer of this family here; the paper adds maps of earlier layers
for detail. Only positive gradients have weight, so channels with evidence against the class are ignored.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from baselines.base import explainers
from baselines.support.cam import GradientCam


@explainers.register("layer_cam")
class LayerCam(GradientCam):
    """Last features times positive gradients, summed over the channels, positive part; fields as in `Cam`."""

    title: ClassVar[str] = "LayerCAM"
    source: ClassVar[str] = "Jiang et al. 2021"

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        """Combine features and gradients into maps (N, 1, h, w) >= 0."""
        return (gradients.relu() * features).sum(1, keepdim=True).relu()

"""HiResCAM: features times their own gradient, position by position.

Idea: L = sum_c G_c * A_c with G = d logit / d A. With a linear head, also without average pooling, the values sum
to logit - bias.
Paper: Draelos and Carin, arXiv 2011.08891 (2020).
Library: own code; captum has none.
Baseline: none; the sum is relative to features that are zero.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused.
Known limits: the resolution is that of the last feature map. With global average pooling and a linear head it equals
Grad-CAM without its ReLU.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from baselines.base import explainers
from baselines.support.cam import GradientCam


@explainers.register("hires_cam")
class HiResCam(GradientCam):
    """Products of last features and gradients, summed over the channels; fields as in `Cam`."""

    title: ClassVar[str] = "HiResCAM"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Draelos and Carin 2020"

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        """Combine features and gradients into maps (N, 1, h, w)."""
        return (gradients * features).sum(1, keepdim=True)

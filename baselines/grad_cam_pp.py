"""Grad-CAM++: Grad-CAM with pixel-wise weights, so that several instances of a class count alike.

Idea: L = ReLU(sum_c w_c A_c), w_c = sum_p a_c(p) ReLU(G_c(p)), a = G^2 / (2 G^2 + sum_p A(p) G^3), with G the gradient
of the logit. The paper differentiates exp(logit), whose derivatives are those powers of G times exp(logit): a
positive factor of each image, which does not change the order of its pixels.
Paper: Chattopadhay et al., WACV 2018.
Library: own code; captum has none. The formula sums A over the whole map, as the paper's equation 19 does.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused.
Known limits: as Grad-CAM. The derivation holds for exp(logit) of a network that is piecewise linear after the map.
Only positive gradients have weight, so channels with evidence against the class are ignored.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from baselines.base import explainers
from baselines.support.cam import GradientCam


@explainers.register("grad_cam_pp")
class GradCamPlusPlus(GradientCam):
    """Last feature map weighted by positive gradients, position by position; fields as in `Cam`."""

    title: ClassVar[str] = "Grad-CAM++"
    source: ClassVar[str] = "Chattopadhay et al. 2018"

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        """Combine features and gradients into maps (N, 1, h, w) >= 0."""
        square = gradients.square()
        total = features.sum((2, 3), keepdim=True)
        denominator = 2 * square + total * square * gradients
        shares = (square / denominator).where(denominator != 0, 0.0)
        weights = (shares * gradients.relu()).sum((2, 3), keepdim=True)
        return (weights * features).sum(1, keepdim=True).relu()

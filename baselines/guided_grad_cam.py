"""Guided Grad-CAM: guided backpropagation, weighted by Grad-CAM.

Idea: the product of the guided gradient, fine but hardly class-specific, and Grad-CAM's map, coarse but class-specific.
Paper: Selvaraju et al., ICCV 2017.
Library: captum `GuidedBackprop` and `LayerGradCam`. Captum's own `GuidedGradCam` returns an empty tensor where it
cannot resize, and assumes that cells tile the image.
Baseline: none.
Budget: one pass each.
Cost: 2 forwards, 2 backwards.
Not valid: networks without nn.ReLU modules or without one last map (N, C, h, w): refused. With other activations beside
ReLU: flagged.
Known limits: those of both methods. Zero wherever Grad-CAM is zero.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.base import explainers
from baselines.grad_cam import GradCam
from baselines.support.gradients import max_magnitude
from baselines.support.modules import caveat_of_other_activations, refusal_without_relu
from baselines.support.through_relu import captum_relu_gradients


@explainers.register("guided_grad_cam")
class GuidedGradCam(GradCam):
    """Largest magnitude of the guided gradient times Grad-CAM; fields as in `Cam`."""

    title: ClassVar[str] = "Guided Grad-CAM"
    source: ClassVar[str] = "Selvaraju et al. 2017; captum GuidedBackprop, LayerGradCam"

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model on which either method is not valid."""
        return refusal_without_relu(model) or super().refusal(model)

    def caveat(self, model: nn.Module) -> str | None:
        """Name activations that are not guided."""
        return caveat_of_other_activations(model)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""
        cams = super().explain(model, images, targets)
        if cams.shape[-2:] != images.shape[-2:]:
            cams = F.interpolate(cams, images.shape[-2:], mode="bilinear", align_corners=False)
        return cams.detach() * max_magnitude(captum_relu_gradients("GuidedBackprop", model, images, targets))

"""Guided Grad-CAM: guided backpropagation, weighted by Grad-CAM.

Idea: the product of the guided gradient, fine but hardly specific, and Grad-CAM's map, coarse but specific.
Paper: Selvaraju et al., ICCV 2017.
Library: captum `GuidedBackprop` and `LayerGradCam`; captum's own `GuidedGradCam` gives an empty tensor where it cannot
resize, and takes cells to tile the image.
Baseline: none.
Budget: one pass each.
Cost: 2 forwards, 2 backwards.
Not valid: networks without nn.ReLU modules or without one last map (N, C, h, w): refused; with other activations beside
ReLU: flagged.
Known limits: those of both; zero wherever Grad-CAM is zero.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.base import explainers
from baselines.grad_cam import GradCam
from baselines.support.gradients import in_parts, largest
from baselines.support.modules import other_than_relu, without_relu
from baselines.support.through_relu import replaced_gradients


@explainers.register("guided_grad_cam")
class GuidedGradCam(GradCam):
    """Largest magnitude of the guided gradient times Grad-CAM; fields as in `Cam`."""

    title: ClassVar[str] = "Guided Grad-CAM"
    source: ClassVar[str] = "Selvaraju et al. 2017; captum GuidedBackprop, LayerGradCam"

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason where either part cannot be had."""
        return without_relu(model) or super().unsupported(model)

    def caveat(self, model: nn.Module) -> str | None:
        """Activations that are not guided."""
        return other_than_relu(model)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) >= 0."""

        def one(part: Tensor, labels: Tensor) -> Tensor:
            return largest(replaced_gradients("GuidedBackprop", model, part, labels))

        cams = super().explain(model, images, targets)
        if cams.shape[-2:] != images.shape[-2:]:
            cams = F.interpolate(cams, images.shape[-2:], mode="bilinear", align_corners=False)
        return cams.detach() * in_parts(one, images, targets, self.internal_batch_size)

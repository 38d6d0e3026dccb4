"""Grad-CAM through captum: the last feature map, its channels weighted by the mean gradient of the target's logit.

Idea: L = ReLU(sum_c w_c A_c) with w_c the spatial mean of d logit / d A_c.
Paper: Selvaraju et al., ICCV 2017.
Library: captum `LayerGradCam`, at the module that outputs the last feature map.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused.
Known limits: the resolution is that of the last feature map. The ReLU drops evidence against the target, so a map can
be all zero, as on untrained residual networks whose last norm of each block starts at zero. With global average pooling
and one linear layer after the features it is the ReLU of the class activation map, divided by h w.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from baselines.base import explainers
from baselines.support.cam import Cam
from interp_core.backbone.inspect import FeatureLayer


@explainers.register("grad_cam")
class GradCam(Cam):
    """Last feature map weighted by mean gradients, positive part; fields as in `Cam`."""

    title: ClassVar[str] = "Grad-CAM"
    source: ClassVar[str] = "Selvaraju et al. 2017; captum LayerGradCam"

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, h, w) >= 0."""
        from captum.attr import LayerGradCam

        method = LayerGradCam(model, layer.module)
        maps: Tensor = method.attribute(images, target=targets, relu_attributions=True)
        return maps

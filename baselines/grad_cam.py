"""Grad-CAM through captum: the last feature map, its channels weighted by the mean gradient of the target's logit.

Idea: L = ReLU(sum_c w_c F_c) with w_c the spatial mean of d logit / d F_c.
Paper: Selvaraju et al., ICCV 2017. Library: captum `LayerGradCam`, at the module that puts out the last feature map.
Budget: one forward and one backward pass per image.
Known limits: the resolution is that of the last feature map; the ReLU drops evidence against the target, so a map can
be all zero (as it is on residual networks with random weights whose last norm of each block starts at zero). With
global average pooling and one linear layer behind the features it is the ReLU of the class activation map over h w.
"""

from __future__ import annotations

from typing import ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from baselines.base import Explainer, explainers
from interp_core.backbone import FeatureLayer, feature_layer
from interp_core.errors import BackboneError
from interp_core.geometry import resize

# Finding the layer may take a forward pass, which is no part of the method: `unsupported` runs before the clock starts
# and leaves what it found here for the call that follows.
_found: WeakKeyDictionary[nn.Module, FeatureLayer] = WeakKeyDictionary()


@explainers.register("grad_cam")
class GradCam(Explainer):
    """Last feature map weighted by mean gradients, positive part.

    Fields:
        aligned: resize with cells on the centres of their receptive fields, as LAP does, so that neither has an
            advantage; otherwise as if cells tiled the image, as usual.
    """

    title: ClassVar[str] = "Grad-CAM"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "Selvaraju et al. 2017; captum LayerGradCam"

    aligned: bool = True

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason if no single module of `model` puts out the last feature map."""
        try:
            _found[model] = feature_layer(model)
        except BackboneError as error:
            return str(error)
        return None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, h, w) >= 0, aligned ones at the resolution of the images, else at that of the last features."""
        from captum.attr import LayerGradCam

        layer = _found.pop(model, None) or feature_layer(model)
        maps = LayerGradCam(model, layer.module).attribute(images, target=targets, relu_attributions=True)
        height, width = images.shape[-2:]
        return resize(maps, height, width, layer.first, layer.pitch) if self.aligned else maps

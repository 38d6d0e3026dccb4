"""Ablation-CAM: channels of the last feature map, weighted by the drop of the target's logit without each.

Idea: L = ReLU(sum_c w_c A_c), w_c = y - y_c, with y_c the target's logit when channel c is 0. The paper divides by y,
which has no effect on the order of pixels while y > 0, and would turn it around where y < 0.
Paper: Desai and Ramaswamy, WACV 2020.
Library: own code, which computes the layers before the map once for many channels; the tests compare it with
pytorch-grad-cam.
Baseline: 0, for a channel of the last map.
Budget: all channels.
Cost: 1 forward, and one answer for each channel from layers behind the map (512 on ResNet-18, 1280 on MobileNetV2); no
backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused.
Known limits: a channel is ablated alone, so that channels which stand in for each other have no weight. Behind
average pooling and one linear layer it is Grad-CAM, with the channels' means in the weights.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines.base import explainers
from baselines.support.cam import Cam, last_features, run_with_hook
from baselines.support.gradients import target_logits
from interp_core.backbone.inspect import FeatureLayer


@explainers.register("ablation_cam")
class AblationCam(Cam):
    """Last feature map weighted by the drop of the logit without each channel; fields as in `Cam`."""

    title: ClassVar[str] = "Ablation-CAM"
    source: ClassVar[str] = "Desai and Ramaswamy 2020"

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, h, w) >= 0."""
        features = last_features(model, layer, images)
        pairs = zip(images.split(1), targets.split(1), strict=True)
        weights = torch.cat([self._weights(model, layer, *pair, features.shape[1]) for pair in pairs])
        return (weights[..., None, None] * features).sum(1, keepdim=True).relu()

    def _weights(self, model: nn.Module, layer: FeatureLayer, image: Tensor, target: Tensor, channels: int) -> Tensor:
        """Compute the drops (1, channels) of the logit of one image (1, C, H, W)."""
        drops = []
        for numbers in torch.arange(channels, device=image.device).split(self.internal_batch_size):

            def ablate(output: Tensor, numbers: Tensor = numbers) -> Tensor:
                """Repeat the map (1, C, h, w): as it is first, then without each of the channels."""
                copies = output.repeat(1 + len(numbers), 1, 1, 1)
                copies[torch.arange(1, len(copies), device=numbers.device), numbers] = 0
                return copies

            with torch.no_grad():
                logits = run_with_hook(model, layer.module, image, ablate)[1]
                answers = target_logits(logits, target.expand(len(logits)))
            drops.append(answers[0] - answers[1:])
        return torch.cat(drops)[None]

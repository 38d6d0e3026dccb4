"""Score-CAM: channels of the last feature map, weighted by the target's logit on the image masked by each.

Idea: L = ReLU(sum_c w_c A_c), w = softmax over the channels of logit(x * H_c), with H_c the channel resized to the
image and stretched to [0, 1]. The paper subtracts the logit of a baseline first, which the softmax cancels.
Paper: Wang et al., CVPR workshops 2020.
Library: own code; captum has none.
Baseline: 0 in normalised space, the mean of the data set, where a mask is 0.
Budget: all channels.
Cost: one forward per channel and one more (513 on ResNet-18, 2049 on ResNet-50), no backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused.
Known limits: if one masked logit is much larger than the others, the softmax keeps one channel. If logits are small,
all channels have the same weight and the map hardly depends on the class. Flat channels have weight 0.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines.base import explainers
from baselines.support.cam import Cam, last_features
from baselines.support.gradients import target_logits
from interp_core.backbone.geometry import resize
from interp_core.backbone.inspect import FeatureLayer

FLAT = 1e-5  # relative range below which a channel counts as constant


def stretch(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Stretch each map (C, 1, H, W) to [0, 1], and return which maps are not flat, (C,)."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    # Resizing a flat map leaves rounding errors.
    span, min_span = high - low, FLAT * maps.abs().amax((2, 3), keepdim=True)
    return (maps - low) / span.where(span > min_span, 1.0), (span > min_span).flatten()


@explainers.register("score_cam")
class ScoreCam(Cam):
    """Last feature map weighted by the logits of images masked by its channels; fields as in `Cam`."""

    title: ClassVar[str] = "Score-CAM"
    source: ClassVar[str] = "Wang et al. 2020"

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, h, w) >= 0."""
        features = last_features(model, layer, images)
        with torch.no_grad():
            weights = torch.stack(
                [self._weights(model, layer, *each) for each in zip(images, targets, features, strict=True)]
            )
        return (weights[..., None, None] * features).sum(1, keepdim=True).relu()

    def _weights(self, model: nn.Module, layer: FeatureLayer, image: Tensor, target: Tensor, maps: Tensor) -> Tensor:
        """Compute the weights (C,) of the channels (C, h, w) of one image (c, H, W)."""
        (height, width), logits, usable = image.shape[-2:], [], []
        for channels in torch.split(maps.unsqueeze(1), self.internal_batch_size):
            if self.aligned:
                resized = resize(channels, height, width, layer.grid_of((height, width)).shown())
            else:
                resized = nn.functional.interpolate(channels, (height, width), mode="bilinear", align_corners=False)
            masks, not_flat = stretch(resized)
            logits.append(target_logits(model(image * masks), target.expand(len(masks))))
            usable.append(not_flat)
        scores = torch.cat(logits).masked_fill(~torch.cat(usable), -torch.inf)
        return scores.softmax(0).nan_to_num(0.0)

"""Score-CAM: every channel of the last feature map masks the image; what the target's logit then is, is its weight.

Idea: L = ReLU(sum_c w_c A_c), w = softmax over the channels of logit(x * H_c), with H_c the enlarged channel stretched
to [0, 1]. The paper subtracts the logit of a baseline first, which the softmax cancels.
Paper: Wang et al., CVPR workshops 2020.
Library: own code; captum has none.
Baseline: 0 in normalised space, the mean of the data set, where a mask hides.
Budget: all channels.
Cost: one forward per channel and one more (513 on ResNet-18, 2049 on ResNet-50), no backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused.
Known limits: where one masked logit stands out the softmax leaves one channel; where logits are small all channels
weigh the same and the map hardly depends on the class. Flat channels weigh nothing.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines.base import explainers
from baselines.support.cam import Cam, last_features
from baselines.support.gradients import of_target
from interp_core.backbone.geometry import resize
from interp_core.backbone.inspect import FeatureLayer

FLAT = 1e-5


def stretched(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Each map (C, 1, H, W) from its least to its greatest value as 0 to 1, and which maps are not flat, (C,)."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    # Enlarging a flat map leaves differences in its last digits.
    span, least = high - low, FLAT * maps.abs().amax((2, 3), keepdim=True)
    return (maps - low) / span.where(span > least, 1.0), (span > least).flatten()


@explainers.register("score_cam")
class ScoreCam(Cam):
    """Last feature map weighted by the logits of images masked by its channels; fields as in `Cam`."""

    title: ClassVar[str] = "Score-CAM"
    source: ClassVar[str] = "Wang et al. 2020"

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, h, w) >= 0."""
        features = last_features(model, layer, images)
        with torch.no_grad():
            weights = torch.stack(
                [self._weights(model, layer, *each) for each in zip(images, targets, features, strict=True)]
            )
        return (weights[..., None, None] * features).sum(1, keepdim=True).relu()

    def _weights(self, model: nn.Module, layer: FeatureLayer, image: Tensor, target: Tensor, maps: Tensor) -> Tensor:
        """Weights (C,) of the channels (C, h, w) of one image (c, H, W)."""
        (height, width), logits, useful = image.shape[-2:], [], []
        for part in maps.unsqueeze(1).split(self.internal_batch_size):
            if self.aligned:
                large = resize(part, height, width, layer.first, layer.pitch)
            else:
                large = nn.functional.interpolate(part, (height, width), mode="bilinear", align_corners=False)
            masks, differs = stretched(large)
            logits.append(of_target(model(image * masks), target.expand(len(masks))))
            useful.append(differs)
        scores = torch.cat(logits).masked_fill(~torch.cat(useful), -torch.inf)
        return scores.softmax(0).nan_to_num(0.0)

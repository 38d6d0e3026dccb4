"""Occlusion: the drop of the target's logit when a window of the image is hidden.

Idea: slide a window over the image, replace it by the baseline, and assign the drop of the logit to the window. Windows
overlap; a pixel gets the mean of the windows that cover it.
Paper: Zeiler and Fergus, ECCV 2014.
Library: captum `Occlusion`.
Baseline: 0 in normalised space, the mean of the data set (the paper's grey square).
Budget: windows of a seventh of the side in steps of half a window, 13 x 13 of them at 224 px; the paper's numbers
are for one size.
Cost: one forward per window and one more, 170 at 224 px; no backward.
Not valid: nowhere refused.
Known limits: one scale only: evidence larger or smaller than the window is missed or smeared. The network was not
trained on images with a grey square, and may react to its shape.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers


@explainers.register("occlusion")
class Occlusion(Explainer):
    """Drop of the logit under a sliding window.

    Fields:
        window: side of the window as a share of the image's.
        stride: step as a share of the image's side.
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "Occlusion"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Zeiler and Fergus 2014; captum Occlusion"

    window: float = Field(1 / 7, gt=0, le=1)
    stride: float = Field(1 / 14, gt=0, le=1)
    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute values (N, 1, H, W)."""
        import captum.attr

        channels, *sides = images.shape[1:]
        window = [max(1, round(self.window * side)) for side in sides]
        steps = [min(size, max(1, round(self.stride * side))) for size, side in zip(window, sides, strict=True)]
        with torch.no_grad():
            values: Tensor = captum.attr.Occlusion(model).attribute(
                images,
                sliding_window_shapes=(channels, *window),
                strides=(channels, *steps),
                baselines=0.0,
                target=targets,
                perturbations_per_eval=max(1, self.internal_batch_size // len(images)),
            )
        # A window covers all channels, so they all have the same value.
        return values[:, :1]

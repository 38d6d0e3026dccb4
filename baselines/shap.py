"""SHAP: Owen values of the target's logit over a tree of image halves, with a blurred image in place of what is hidden.

Idea: share logit(x) - logit(blurred x) out fairly among the pixels; halves that matter are split further, most relevant
first, until the evaluations are spent.
Paper: Lundberg and Lee, NIPS 2017.
Library: shap `PartitionExplainer` with the masker of shap's own image examples,
blur with a kernel of 128 px at 224 px, scaled with the side.
Why this one: it asks the model for outputs only, so it means the same on every backbone and spends a fixed number of
passes on one output. `DeepExplainer` does not run on residual networks with in-place additions and misses most of the
sum on gates and GELU. `GradientExplainer` is close kin to Integrated Gradients, needs background images, and costs
about the same at its default of 200 samples (0.57 s against 0.65 s per image at 64 px, test_resnet with output stride
8, one CPU thread). What PartitionExplainer itself adds to its model passes is a seventh there.
Baseline: the blurred image.
Budget: 500 evaluations, shap's default.
Cost: 500 forwards, no backward.
Not valid: nowhere refused.
Known limits: boxes, not shapes, as fine as the budget allows; what blurring leaves as it was cannot be hidden. shap
compiles its tree functions once in a process (5 to 9 s), before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.guard import Cost, seeded


def logits_of(model: nn.Module, like: Tensor) -> Callable[[np.ndarray], np.ndarray]:
    """Function from images (N, H, W, C) to logits (N, K) that shap can ask, on the device and in the type of `like`."""

    def ask(images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(like)
        with torch.no_grad():
            return model(batch).float().cpu().numpy()

    return ask


def partition_values(
    ask: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    targets: list[int],
    *,
    evaluations: int,
    kernel: tuple[int, int],
    batch_size: int,
) -> np.ndarray:
    """Values (N, H, W, C) for `images` (N, H, W, C); `kernel` is the width and height of the blur in pixels."""
    import shap

    masker = shap.maskers.Image(f"blur({kernel[0]},{kernel[1]})", images[0].shape)
    explainer = shap.PartitionExplainer(ask, masker)
    values = []
    for image, target in zip(images, targets, strict=True):
        # The masker keeps a blurred image by the address of its input, which the next image may get after this one.
        masker.last_xid = None
        result = explainer(image[None], max_evals=evaluations, batch_size=batch_size, outputs=[target], silent=True)
        values.append(result.values[0, ..., 0])
    return np.stack(values)


@cache
def compile_once() -> None:
    """Have shap's compiled functions ready, so that no call is charged for them."""
    image = np.zeros((1, 4, 4, 3), dtype=np.float32)
    with seeded(0):
        partition_values(lambda x: x.mean((1, 2))[:, :2], image, [0], evaluations=10, kernel=(2, 2), batch_size=2)


@explainers.register("shap")
class Shap(Explainer):
    """Owen values over a tree of image halves, hidden parts blurred; sums to the difference of the logits.

    Fields:
        evaluations: images asked of the model for each image explained.
        blur: side of the blurring kernel as a fraction of the side of the image.
        batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "SHAP"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Lundberg and Lee 2017; shap PartitionExplainer"

    evaluations: int = Field(500, ge=10)
    blur: float = Field(128 / 224, gt=0, le=1)
    batch_size: int = Field(64, ge=2)

    def measure(
        self, model: nn.Module, images: Tensor, targets: Tensor, *, masks: Tensor | None = None, seed: int = 0
    ) -> tuple[Tensor, Cost]:
        """As for every explainer; shap's compilation comes before and is not part of the cost."""
        compile_once()
        return super().measure(model, images, targets, masks=masks, seed=seed)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Values (N, C, H, W), one per channel."""
        height, width = images.shape[-2:]
        values = partition_values(
            logits_of(model, images),
            images.float().permute(0, 2, 3, 1).cpu().numpy(),
            targets.tolist(),
            evaluations=self.evaluations,
            kernel=(max(2, round(self.blur * width)), max(2, round(self.blur * height))),
            batch_size=self.batch_size,
        )
        return torch.from_numpy(values).permute(0, 3, 1, 2)

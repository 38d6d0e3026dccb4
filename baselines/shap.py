"""SHAP: Owen values of the target's logit over a tree of image halves, with hidden parts blurred.

Idea: divide logit(x) - logit(blurred x) fairly among the pixels. Halves with large values are split further, the
largest first, until the budget of evaluations is spent.
Paper: Lundberg and Lee, NIPS 2017.
Library: shap `PartitionExplainer` with the masker of shap's image examples, a blur with a kernel of 128 px at 224 px,
scaled with the side.
Why this one: it uses outputs of the model only, so it means the same on every backbone, and needs a fixed number of
passes for one output. `DeepExplainer` does not run on residual networks with in-place additions, and misses most of the
sum on gates and GELU. `GradientExplainer` resembles Integrated Gradients, needs background images, and costs about the
same at its default of 200 samples (0.57 s against 0.65 s per image at 64 px, test_resnet with output stride 8, one CPU
thread). PartitionExplainer itself adds one seventh to the time of its model passes there.
Baseline: the blurred image.
Budget: 500 evaluations, shap's default.
Cost: 500 forwards, no backward.
Not valid: nowhere refused.
Known limits: boxes, not shapes, as fine as the budget allows. A blur does not hide smooth areas. shap compiles its tree
functions once in a process (5 to 9 s), before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, Targets, explainers
from baselines.support.guard import Cost, seed_generators

Array = npt.NDArray[Any]


def logits_of(model: nn.Module, like: Tensor) -> Callable[[Array], Array]:
    """Make a function from images (N, H, W, C) to logits (N, K), for shap, with device and type of `like`."""

    def predict(images: Array) -> Array:
        batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(like)
        with torch.no_grad():
            logits: Array = model(batch).float().cpu().numpy()
        return logits

    return predict


def partition_values(
    predict: Callable[[Array], Array],
    images: Array,
    targets: list[int],
    *,
    evaluations: int,
    kernel: tuple[int, int],
    batch_size: int,
) -> Array:
    """Compute values (N, H, W, C) for `images` (N, H, W, C).

    Args:
        predict: function from images to logits (N, K).
        images: (N, H, W, C).
        targets: class of each image.
        evaluations: images passed through the model for each image explained.
        kernel: width and height of the blur, in pixels.
        batch_size: images passed through the model at once.
    """
    import shap

    masker = shap.maskers.Image(f"blur({kernel[0]},{kernel[1]})", images[0].shape)
    explainer = shap.PartitionExplainer(predict, masker)
    values = []
    for image, target in zip(images, targets, strict=True):
        # The masker caches the blurred image by the memory address of its input, which the next image may reuse.
        masker.last_xid = None
        result = explainer(image[None], max_evals=evaluations, batch_size=batch_size, outputs=[target], silent=True)
        values.append(result.values[0, ..., 0])
    return np.stack(values)


@cache
def compile_once() -> None:
    """Compile shap's functions, so that their compilation is not part of the cost of a call."""
    image = np.zeros((1, 4, 4, 3), dtype=np.float32)
    with seed_generators(0):
        partition_values(lambda x: x.mean((1, 2))[:, :2], image, [0], evaluations=10, kernel=(2, 2), batch_size=2)


@explainers.register("shap")
class Shap(Explainer):
    """Owen values over a tree of image halves, which sum to the difference of the logits.

    Fields:
        evaluations: images passed through the model for each image explained.
        blur: side of the blurring kernel, as a share of the side of the image.
        batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "SHAP"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Lundberg and Lee 2017; shap PartitionExplainer"

    evaluations: int = Field(500, ge=10)
    blur: float = Field(128 / 224, gt=0, le=1)
    batch_size: int = Field(64, ge=2)

    def measure(self, model: nn.Module, images: Tensor, targets: Targets, **options: Any) -> tuple[Tensor, Cost]:
        """Explain images, and measure the cost without shap's compilation; see `Explainer.measure`."""
        compile_once()
        return super().measure(model, images, targets, **options)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute values (N, C, H, W), one per channel."""
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

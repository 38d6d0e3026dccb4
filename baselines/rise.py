"""RISE: random masks, weighted by the target's probability on each masked image.

Idea: multiply the image by smooth random masks M_i, which are resized and shifted grids of 0 and 1. The map is
1 / (N p) sum_i f(x * M_i) M_i, with f the probability of the target and p the share of ones.
Paper: Petsiuk et al., BMVC 2018.
Library: own code; captum and shap have none.
Baseline: 0 in normalised space, the mean of the data set.
Budget: 4000 masks of 7 x 7 cells with p = 0.5, the paper's for VGG16 (8000 for ResNet-50).
Cost: 4000 forwards, no backward.
Not valid: nowhere refused; under 1000 masks flagged.
Known limits: blobs of the size of the masks' cells. Sampling noise, which falls with the square root of the number of
masks. A probability near 1 or 0 hides differences. All images of a call get the same masks, so that a map does not
depend on its batch.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.gradients import sum_over_samples, target_logits
from interp_core.lap.odds import class_probabilities

MIN_MASKS = 1000


def random_masks(count: int, cells: int, share: float, height: int, width: int) -> Tensor:
    """Draw masks (count, 1, height, width) in [0, 1] from torch's default generator.

    Args:
        count: number of masks.
        cells: cells of the grid along each side.
        share: probability that a cell is 1.
        height: rows of the image.
        width: columns of the image.
    """
    cell = -(-height // cells), -(-width // cells)
    masks = []
    for _ in range(count):
        grid = (torch.rand(1, 1, cells + 1, cells + 1) < share).float()
        top, left = (int(torch.randint(side, ())) for side in cell)
        size = tuple((cells + 1) * side for side in cell)
        large = F.interpolate(grid, size, mode="bilinear", align_corners=False)
        masks.append(large[0, :, top : top + height, left : left + width])
    return torch.stack(masks)


@explainers.register("rise")
class Rise(Explainer):
    """Random masks, weighted by the target's probability.

    Fields:
        masks: number of masks.
        cells: cells of a mask along each side.
        share: probability that a cell is 1.
        internal_batch_size: masks of one image that go through the model at once.
        probability: "softmax", or "sigmoid" where an image may show several classes; one logit always has a sigmoid.
    """

    title: ClassVar[str] = "RISE"
    signed: ClassVar[bool] = False
    batched: ClassVar[bool] = False
    source: ClassVar[str] = "Petsiuk et al. 2018"

    masks: int = Field(4000, ge=1)
    cells: int = Field(7, ge=2)
    share: float = Field(0.5, gt=0, lt=1)
    internal_batch_size: int = Field(64, ge=1)
    probability: Literal["softmax", "sigmoid"] = "softmax"

    def caveat(self, model: nn.Module) -> str | None:  # noqa: ARG002
        """Report a small number of masks."""
        return f"{self.masks} masks, where the paper has 4000: noisy" if self.masks < MIN_MASKS else None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""

        def draw(numbers: range) -> Tensor:
            return random_masks(len(numbers), self.cells, self.share, *images.shape[-2:]).to(images)

        def compute(image: Tensor, labels: Tensor, masks: Tensor) -> Tensor:
            logits = model(image * masks)
            scores = target_logits(class_probabilities(logits, self.probability == "sigmoid"), labels)
            return torch.einsum("m,mchw->chw", scores.to(masks), masks)

        with torch.no_grad():
            total = sum_over_samples(images, targets, self.masks, self.internal_batch_size, draw, compute)
        return total / (self.masks * self.share)

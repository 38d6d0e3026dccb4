"""Controls: maps that do not depend on the model, which an explainer must beat.

The score of a control is the reference for the scores of explainers. The docstring of each class says what it controls
for.

Library: own code.
Baseline: none.
Budget: none.
Cost: no forward, no backward.
Known limits: explains nothing.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, Kind, explainers


class Control(Explainer):
    """Explainer that ignores the model; its maps are >= 0."""

    kind: ClassVar[Kind] = "control"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "control"


@explainers.register("random")
class Random(Control):
    """Independent uniform noise for every pixel.

    Idea: noise at pixel level, the chance level of every metric.
    Paper: none.
    Not valid: nowhere refused.
    """

    title: ClassVar[str] = "Random"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Draw maps (N, 1, H, W) in [0, 1)."""
        return torch.rand(len(images), 1, *images.shape[-2:])


@explainers.register("smoothed_random")
class SmoothedRandom(Control):
    """Uniform noise on a coarse grid, resized bilinearly by the base class.

    Fields:
        grid: cells along each side.

    Idea: noise at the resolution of a coarse last feature map. It shows how much removal metrics favour blurred maps.
    Paper: none.
    Not valid: nowhere refused.
    """

    title: ClassVar[str] = "Smoothed random"

    grid: int = Field(8, ge=2)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Draw maps (N, 1, grid, grid) in [0, 1)."""
        return torch.rand(len(images), 1, self.grid, self.grid)


def gaussian(height: int, width: int, sigma: float) -> Tensor:
    """Compute exp(-(x^2 + y^2) / (2 sigma^2)) on (height, width), for sides of length 1 and a central origin."""
    y, x = ((torch.arange(n) + 0.5) / n - 0.5 for n in (height, width))
    return torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2))


@explainers.register("centre_gaussian")
class CentreGaussian(Control):
    """Gaussian in the middle of the image, the same for all.

    Fields:
        sigma: standard deviation, as a share of each side.

    Idea: photographs often have their object in the middle, which a map can show without any model.
    Paper: none.
    Not valid: nowhere refused.
    """

    title: ClassVar[str] = "Centre Gaussian"

    sigma: float = Field(0.25, gt=0)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Compute maps (N, 1, H, W) in (0, 1]."""
        height, width = images.shape[-2:]
        return gaussian(height, width, self.sigma).expand(len(images), 1, height, width)


def gradient_magnitude(images: Tensor) -> Tensor:
    """Compute the length (N, 1, H, W) of the Sobel gradient of the channel mean, with borders repeated."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=images.device) / 8
    kernels = torch.stack([across, across.T]).unsqueeze(1)
    grey = F.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(grey, kernels).square().sum(1, keepdim=True).sqrt()


@explainers.register("edges")
class Edges(Control):
    """Edge strength of the grey image.

    Idea: edge maps look like explanations. Length of the gradient in both directions; the Sobel filter of Quantus uses
    one direction only.
    Paper: Adebayo et al., NeurIPS 2018, for the comparison.
    Not valid: nowhere refused.
    """

    title: ClassVar[str] = "Edges"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Compute maps (N, 1, H, W), >= 0."""
        return gradient_magnitude(images)


@explainers.register("mask")
class Mask(Control):
    """Evidence mask of the data set.

    Idea: the best possible map for a localisation metric. Not a bound for faithfulness, since a model may use other
    parts of the image.
    Paper: none.
    Not valid: data sets without evidence masks: refused.
    """

    title: ClassVar[str] = "Evidence mask"
    needs_masks: ClassVar[bool] = True

    def explain(
        self,
        model: nn.Module,  # noqa: ARG002
        images: Tensor,  # noqa: ARG002
        targets: Tensor,  # noqa: ARG002
        masks: Tensor | None = None,
    ) -> Tensor:
        """Return maps (N, 1, H, W), 1 where the evidence is and 0 elsewhere."""
        assert masks is not None, "the base class raises an error without masks"
        return masks.float()

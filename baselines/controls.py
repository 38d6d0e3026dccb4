"""Controls: maps that know nothing of the model, which any explainer worth the name must beat.

Idea: what a metric gives to maps without knowledge is what its scores are worth.
random: noise at pixel level, the chance level of every metric.
smoothed_random: noise at the resolution of a coarse last feature map, enlarged like one. Blurred maps are favoured by
    removal metrics; this is how much.
centre_gaussian: photographs have their object in the middle; a map that says so has learnt nothing.
edges: edge maps look like explanations (Adebayo et al. 2018). Gradient in both directions, of either sign; the Sobel
    filter that Quantus offers sees one direction only.
mask: the evidence mask itself, the best a localisation metric can be given. Not a bound for faithfulness: a model may
    well look elsewhere.

Paper: none.
Library: own code.
Baseline: none.
Budget: none.
Cost: no forward, no backward.
Not valid: the evidence mask, on data sets without masks: refused.
Known limits: they explain nothing; that is what they are for.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, Kind, explainers


class Control(Explainer):
    """An explainer that does not look at the model; its maps are >= 0."""

    kind: ClassVar[Kind] = "control"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "control"


@explainers.register("random")
class Random(Control):
    """Independent uniform noise for every pixel."""

    title: ClassVar[str] = "Random"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Maps (N, 1, H, W) in [0, 1)."""
        return torch.rand(len(images), 1, *images.shape[-2:])


@explainers.register("smoothed_random")
class SmoothedRandom(Control):
    """Uniform noise on a coarse grid, enlarged bilinearly by the base class.

    Fields:
        grid: cells along each side.
    """

    title: ClassVar[str] = "Smoothed random"

    grid: int = Field(8, ge=2)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Maps (N, 1, grid, grid) in [0, 1)."""
        return torch.rand(len(images), 1, self.grid, self.grid)


def gaussian(height: int, width: int, sigma: float) -> Tensor:
    """Map (height, width) of exp(-(x^2 + y^2) / (2 sigma^2)), the sides 1 long and the origin in the middle."""
    y, x = ((torch.arange(n) + 0.5) / n - 0.5 for n in (height, width))
    return torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2))


@explainers.register("centre_gaussian")
class CentreGaussian(Control):
    """A Gaussian in the middle of the image, the same for all.

    Fields:
        sigma: standard deviation as a fraction of each side.
    """

    title: ClassVar[str] = "Centre Gaussian"

    sigma: float = Field(0.25, gt=0)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Maps (N, 1, H, W) in (0, 1]."""
        height, width = images.shape[-2:]
        return gaussian(height, width, self.sigma).expand(len(images), 1, height, width)


def gradient_magnitude(images: Tensor) -> Tensor:
    """Length (N, 1, H, W) of the Sobel gradient of the channel mean of `images` (N, C, H, W), borders repeated."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=images.device) / 8
    kernels = torch.stack([across, across.T]).unsqueeze(1)
    grey = F.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(grey, kernels).square().sum(1, keepdim=True).sqrt()


@explainers.register("edges")
class Edges(Control):
    """Edge strength of the grey image."""

    title: ClassVar[str] = "Edges"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Maps (N, 1, H, W), >= 0."""
        return gradient_magnitude(images)


@explainers.register("mask")
class Mask(Control):
    """The evidence mask of the data set."""

    title: ClassVar[str] = "Evidence mask"
    needs_masks: ClassVar[bool] = True

    def explain(
        self,
        model: nn.Module,  # noqa: ARG002
        images: Tensor,  # noqa: ARG002
        targets: Tensor,  # noqa: ARG002
        masks: Tensor | None = None,
    ) -> Tensor:
        """Maps (N, 1, H, W), 1 where the evidence lies and 0 elsewhere."""
        assert masks is not None, "the base class refuses a call without masks"
        return masks.float()

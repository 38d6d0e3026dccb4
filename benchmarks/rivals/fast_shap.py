"""FastSHAP: a module beside a network learns the Shapley values of the image's patches.

    phi_k = S_k averaged on d patches + (p_k(x) - p_k(0) - their sum) / d        so that they add up
    loss  = d mean over subsets s and classes k of (p_k(x_s) - p_k(0) - sum_{i in s} phi_ki)^2

x_s shows the patches of s and the mean colour elsewhere. Sizes of subsets are drawn with the weight 1 / (n (d - n)) of
the Shapley kernel, and each subset comes with its complement. S as in `benchmarks.rivals.amortised`.

Source: Jethani et al., "FastSHAP: real-time Shapley value estimation", ICLR 2022.

Known limits: the authors first train a surrogate of the network on masked images; here the network itself answers,
which has not seen any. They draw 32 subsets an image. There is no map for evidence against a class: its positive part
is shown. See `benchmarks.rivals.amortised` for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.amortised import AmortisedOptions, AmortisedRival
from benchmarks.rivals.base import Normalisation, rivals
from interp_core.backbone.trace import evaluating
from interp_core.lap.odds import is_sigmoid
from interp_core.training import decision_loss


class FastShapOptions(AmortisedOptions):
    """Parameters of FastSHAP.

    Fields:
        cells: most patches a side; the finest map that is read may have fewer cells.
        subsets: subsets of an image and step, half of them complements of the others.
        weight: weight of the loss.
    """

    cells: int = Field(16, ge=2)
    subsets: int = Field(8, ge=2, multiple_of=2)
    weight: float = Field(1.0, ge=0)


@rivals.register("fast_shap")
class FastShap(AmortisedRival[FastShapOptions]):
    """A plain network, and a module that predicts Shapley values of its probabilities."""

    title: ClassVar[str] = "FastSHAP"
    source: ClassVar[str] = "Jethani et al. 2022"
    explains_itself: ClassVar[bool] = True
    empty: Tensor
    has_sigmoid: Tensor

    def __init__(
        self, backbone: nn.Module, options: FastShapOptions, normalisation: Normalisation | None = None
    ) -> None:
        super().__init__(backbone, options, normalisation)
        # Probabilities (1, K) of an image of the mean colour, as of the last step.
        self.register_buffer("empty", torch.full((1, self.info.classes), 1 / max(2, self.info.classes)))
        self.register_buffer("has_sigmoid", torch.tensor(self.info.classes == 1))

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Compute the network's class loss, and the error of the Shapley values; see `Rival.losses`."""
        maps, logits = self.read(images)
        self.has_sigmoid.fill_(is_sigmoid(logits, targets.ndim == 2))
        with torch.no_grad():
            self.empty.copy_(self.probabilities(self.frozen_logits(torch.zeros_like(images[:1]))))
            full = self.probabilities(self.frozen_logits(images))
        values = self.shapley_values(self.class_maps(maps), full)
        # In evaluation mode the same subsets are drawn each time.
        generator = None if self.training else torch.Generator().manual_seed(0)
        subsets = draw_subsets(len(images), values[0, 0].numel(), self.options.subsets, generator).to(values)
        with torch.no_grad():
            shown = self.probabilities(self.frozen_logits(self._show(images, subsets, values.shape[-2:])))
        predicted = self.empty[:, None] + torch.einsum("ntd,nkd->ntk", subsets, values.flatten(2))
        error = F.mse_loss(predicted, shown.view_as(predicted))
        return {
            "cross_entropy": decision_loss(logits, targets),
            "shapley": self.options.weight * subsets.shape[-1] * error,
        }

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute the probabilities (N, K): a softmax, or each class' own sigmoid as in the last training step."""
        return logits.float().sigmoid() if self.has_sigmoid else logits.float().softmax(1)

    def shapley_values(self, scores: Tensor, full: Tensor) -> Tensor:
        """Compute Shapley values (N, K, rows, columns) of patches that add up to p(x) - p(0).

        Args:
            scores: S (N, K, h, w).
            full: p(x), (N, K).
        """
        height, width = (min(self.options.cells, side) for side in scores.shape[-2:])
        values = F.adaptive_avg_pool2d(scores.float(), (height, width))
        gap = full - self.empty - values.sum((2, 3))
        return values + gap[..., None, None] / values[0, 0].numel()

    @staticmethod
    def _show(images: Tensor, subsets: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Return images (N T, C, H, W) that show the patches of subsets (N, T, d) alone."""
        masks = F.interpolate(subsets.flatten(0, 1).unflatten(1, (1, *grid)), images.shape[-2:])
        return images.repeat_interleave(subsets.shape[1], 0) * masks.to(images.dtype)

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the positive part of the values as maps (N, 1, H, W), from one forward pass."""
        with evaluating(self), torch.no_grad():
            maps, logits = self.read(images)
            values = self.shapley_values(self.class_maps(maps), self.probabilities(logits))
            chosen = values[torch.arange(len(images)), targets].unsqueeze(1)
            return F.interpolate(chosen.clamp(min=0), images.shape[-2:])


def draw_subsets(images: int, players: int, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw subsets (N, count, players) bool, the second half the complements of the first.

    A size n is drawn with probability proportional to 1 / (n (players - n)), and all subsets of it alike.

    Args:
        images: N.
        players: at least 2.
        count: even.
        generator: on the CPU; None for torch's default.
    """
    sizes = torch.arange(1, players)
    weights = (1 / (sizes * (players - sizes))).expand(images, -1)
    drawn = 1 + torch.multinomial(weights, count // 2, replacement=True, generator=generator)
    order = torch.rand(images, count // 2, players, generator=generator).argsort(-1).argsort(-1)
    subsets = order < drawn[..., None]
    return torch.cat([subsets, ~subsets], 1)

"""The explainer contract: callers use `explainer(model, images, targets)`, authors write one short method.

An explainer is a pydantic model: its fields are its parameters, checked and named in the run's provenance. The base
class does everything else once: target and shape checks, evaluation mode, seeding, one channel, input resolution,
cost.

    @explainers.register("squared_gradient")
    class SquaredGradient(Explainer):
        '''Square of the input gradient.'''

        title: ClassVar[str] = "Squared gradient"
        signed: ClassVar[bool] = False

        def explain(self, model, images, targets):
            return captum.attr.Saliency(model).attribute(images, target=targets).square()
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from baselines.support.guard import Cost, counted, preserved, seeded
from interp_core.errors import ContractError
from interp_core.registry import ClassRegistry

Kind = Literal["intrinsic", "external", "control"]


class Explainer(BaseModel):
    """Anything that turns (model, images, targets) into maps. Subclasses write `explain`.

    Class attributes:
        title: name in tables and figures.
        kind: "intrinsic" (the model's own), "external", or "control" (knows nothing of the model).
        signed: whether negative values mean evidence against the target; localisation then takes the positive part.
        source: the paper or library the method comes from.
        needs_masks: whether `explain` takes the keyword `masks`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    kind: ClassVar[Kind] = "external"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = ""
    needs_masks: ClassVar[bool] = False

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, c, h, w), any c and h, w, for `images` (N, C, H, W) normalised and `targets` (N,) int64.

        Channels are summed and the map is resized bilinearly by the caller. The model is in evaluation mode; gradients
        are enabled; the random generators are seeded.
        """
        raise NotImplementedError(f"{type(self).__name__} must define explain")

    def unsupported(self, model: nn.Module) -> str | None:  # noqa: ARG002
        """Why this explainer is not valid on `model`; None if it is."""
        return None

    def caveat(self, model: nn.Module) -> str | None:  # noqa: ARG002
        """What makes the maps doubtful on `model`, though not invalid, for the report; None if nothing is known."""
        return None

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Tensor, *, masks: Tensor | None = None, seed: int = 0
    ) -> Tensor:
        """Explanations (N, 1, H, W) float32 on the device of `images`; see `measure`."""
        return self.measure(model, images, targets, masks=masks, seed=seed)[0]

    def measure(
        self, model: nn.Module, images: Tensor, targets: Tensor, *, masks: Tensor | None = None, seed: int = 0
    ) -> tuple[Tensor, Cost]:
        """Explanations and what they cost.

        Args:
            model: network that turns normalised images into logits (N, K).
            images: (N, C, H, W) floating point, normalised as the model expects.
            targets: (N,) class indices.
            masks: (N, 1, H, W) evidence masks, for explainers that need them.
            seed: seeds every random generator during the call.

        Returns:
            (N, 1, H, W) float32 maps, NaN where the method gave NaN, and the cost of the call.

        Raises:
            ContractError: wrong inputs, an unsupported model, or maps of the wrong shape.
        """
        self._check_inputs(model, images, targets, masks)
        options = {"masks": masks} if self.needs_masks else {}
        cost = Cost(images=len(images))
        with preserved(model), seeded(seed), torch.enable_grad(), counted(model, cost):
            maps = self.explain(model, images.detach().clone(), targets, **options)
            maps = self._one_channel(maps, images)
        return maps, cost

    def _check_inputs(self, model: nn.Module, images: Tensor, targets: Tensor, masks: Tensor | None) -> None:
        if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
            raise ContractError(
                f"{self.name}: images must be (N, C, H, W) floating point, got {tuple(images.shape)} {images.dtype}"
            )
        if targets.shape != (len(images),) or targets.is_floating_point():
            raise ContractError(f"{self.name}: targets must be {len(images)} integers, got {tuple(targets.shape)}")
        if self.needs_masks and masks is None:
            raise ContractError(f"{self.name} needs evidence masks and this data set gave none")
        reason = self.unsupported(model)
        if reason is not None:
            raise ContractError(f"{self.name} cannot explain this model: {reason}")

    def _one_channel(self, maps: Tensor, images: Tensor) -> Tensor:
        if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != len(images):
            got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise ContractError(f"{self.name}: explain must return a tensor ({len(images)}, c, h, w), got {got}")
        maps = maps.detach().to(images.device, torch.float32).sum(1, keepdim=True)
        if maps.shape[-2:] != images.shape[-2:]:
            maps = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
        return maps


explainers: ClassRegistry[Explainer] = ClassRegistry("explainer", "interp_bench.explainers")

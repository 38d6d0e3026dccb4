"""The explainer contract: callers use `explainer(model, images, targets)`, authors write one short method.

An explainer is a pydantic model. Its fields are its parameters; they are checked and stored with the results. The base
class does the rest: checks of inputs and shapes, evaluation mode, seeding, batching, one channel, input resolution and
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

from baselines.support.guard import Cost, count_passes, preserve, seed_generators
from baselines.support.trial import remember_shape
from interp_core.errors import ContractError
from interp_core.registry import ClassRegistry

Kind = Literal["intrinsic", "amortised", "optimised", "external", "control"]


class Explainer(BaseModel):
    """Method that turns (model, images, targets) into maps. Subclasses write `explain`.

    Class attributes:
        title: name in tables and figures.
        kind: "intrinsic" (part of the model's decision), "amortised" (learned beside the model), "optimised" (from the
            model's own map, by passes over the image), "external", or "control" (ignores the model).
        signed: whether negative values mean evidence against the target; localisation then uses the positive part.
        source: the paper or library of the method.
        needs_masks: whether `explain` takes the keyword `masks`.
        batched: whether `explain` gets at most `internal_batch_size` images at once, if the class has such a field.
            False where the field limits the samples of one image instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    kind: ClassVar[Kind] = "external"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = ""
    needs_masks: ClassVar[bool] = False
    batched: ClassVar[bool] = True

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, c, h, w), with any c, h and w.

        The caller sums the channels and resizes the map bilinearly. The model is in evaluation mode, gradients are
        enabled, and the random generators are seeded.

        Args:
            model: network that turns normalised images into logits (N, K).
            images: (N, C, H, W), normalised.
            targets: (N,) int64.
        """
        raise NotImplementedError(f"{type(self).__name__} must define explain")

    def refusal(self, model: nn.Module) -> str | None:  # noqa: ARG002
        """Return the reason why this explainer is not valid on `model`; None if it is valid."""
        return None

    def caveat(self, model: nn.Module) -> str | None:  # noqa: ARG002
        """Return the reason why maps on `model` are doubtful, though not invalid; None if there is none."""
        return None

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Tensor, *, masks: Tensor | None = None, seed: int = 0
    ) -> Tensor:
        """Explain images: maps (N, 1, H, W) float32 on the device of `images`; see `measure`."""
        return self.measure(model, images, targets, masks=masks, seed=seed)[0]

    def measure(
        self, model: nn.Module, images: Tensor, targets: Tensor, *, masks: Tensor | None = None, seed: int = 0
    ) -> tuple[Tensor, Cost]:
        """Explain images, and measure the cost.

        Args:
            model: network that turns normalised images into logits (N, K).
            images: (N, C, H, W) floating point, normalised as the model expects.
            targets: (N,) class indices.
            masks: (N, 1, H, W) evidence masks, for explainers that need them.
            seed: seed of every random generator during the call.

        Returns:
            Maps (N, 1, H, W) float32, NaN where the method returned NaN, and the cost of the call.

        Raises:
            ContractError: wrong inputs, a model that the explainer refuses, or maps of the wrong shape.
        """
        self._check_inputs(model, images, targets, masks)
        cost = Cost(images=len(images))
        with preserve(model), seed_generators(seed), torch.enable_grad(), count_passes(model, cost):
            maps = self.explain_in_batches(model, images.detach().clone(), targets, masks)
        return maps, cost

    def explain_in_batches(
        self, model: nn.Module, images: Tensor, targets: Tensor, masks: Tensor | None = None
    ) -> Tensor:
        """Run `explain` on batches of images, without the checks and the bookkeeping of `measure`.

        Returns:
            Maps (N, 1, H, W) float32.
        """
        size = getattr(self, "internal_batch_size", len(images)) if self.batched else len(images)
        maps = []
        for start in range(0, len(images), size):
            rows = slice(start, start + size)
            options = {"masks": masks[rows]} if self.needs_masks and masks is not None else {}
            batch = self.explain(model, images[rows], targets[rows], **options)
            maps.append(self._to_one_channel(batch, images[rows]))
        return torch.cat(maps)

    def _check_inputs(self, model: nn.Module, images: Tensor, targets: Tensor, masks: Tensor | None) -> None:
        if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
            raise ContractError(
                f"{self.name}: images must be (N, C, H, W) floating point, got {tuple(images.shape)} {images.dtype}"
            )
        if targets.shape != (len(images),) or targets.is_floating_point():
            raise ContractError(f"{self.name}: targets must be {len(images)} integers, got {tuple(targets.shape)}")
        if self.needs_masks and masks is None:
            raise ContractError(f"{self.name} needs evidence masks and this data set gave none")
        remember_shape(model, images.shape[1:])
        reason = self.refusal(model)
        if reason is not None:
            raise ContractError(f"{self.name} cannot explain this model: {reason}")

    def _to_one_channel(self, maps: Tensor, images: Tensor) -> Tensor:
        if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != len(images):
            form = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise ContractError(f"{self.name}: explain must return a tensor ({len(images)}, c, h, w), got {form}")
        maps = maps.detach().to(images.device, torch.float32).sum(1, keepdim=True)
        if maps.shape[-2:] != images.shape[-2:]:
            maps = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
        return maps


explainers: ClassRegistry[Explainer] = ClassRegistry("explainer", "interp_bench.explainers")

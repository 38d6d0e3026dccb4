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

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from baselines.support.fast_calls import fast_calls
from baselines.support.guard import Cost, count_passes, preserve, seed_generators
from baselines.support.prepare import copying_images, failures_in_words, prepare, uncompiled
from baselines.support.trial import remember_shape
from interp_core.backbone.compiled import reason_of_closed_layers
from interp_core.backbone.outputs import Output
from interp_core.errors import ContractError
from interp_core.registry import ClassRegistry

# Class indices: a tensor, an array or a list of any integer type, or one class for all images.
Targets = Tensor | npt.NDArray[Any] | Sequence[int] | int
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
        needs_layers: whether it works on the layers of the network, which a scripted or quantised one hides.
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
    needs_layers: ClassVar[bool] = False
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
        self,
        model: nn.Module,
        images: Tensor,
        targets: Targets,
        *,
        masks: Tensor | None = None,
        seed: int = 0,
        output: Output | None = None,
    ) -> Tensor:
        """Explain images: maps (N, 1, H, W) float32 on the device of `images`; see `measure`."""
        return self.measure(model, images, targets, masks=masks, seed=seed, output=output)[0]

    def measure(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Targets,
        *,
        masks: Tensor | None = None,
        seed: int = 0,
        output: Output | None = None,
        many: bool = False,
    ) -> tuple[Tensor, Cost]:
        """Explain images, and measure the cost.

        Args:
            model: network that turns normalised images into logits (N, K), in any wrapper; see
                `baselines.support.prepare`.
            images: (N, C, H, W) floating point, normalised as the model expects, of its type and on its device.
            targets: N class indices of any integer type, or one for all. The one logit of a binary network is target 0.
            masks: (N, 1, H, W) evidence masks, for explainers that need them.
            seed: seed of every random generator during the call.
            output: where the network returns more than logits, the part that they are: a key, an index, the name of an
                attribute, or a function of what it returns.
            many: whether many images will be explained, so that seconds spent on faster gradients pay.

        Returns:
            Maps (N, 1, H, W) float32, NaN where the method returned NaN, and the cost of the call.

        Raises:
            ContractError: wrong inputs, a model that the explainer refuses, or maps of the wrong shape.
        """
        # Explainers need gradients, whatever the caller has switched off.
        with torch.inference_mode(False), torch.enable_grad():
            needs_network = self.kind != "control"
            task = prepare(self.name, model, images, targets, output, needs_network=needs_network)
            network, cost = task.network, Cost(images=len(task.images))
            with (
                uncompiled(network),
                torch.autocast(task.images.device.type, enabled=False),
                copying_images(network, enabled=task.changes_images),
                failures_in_words(self.name, network, task.images),
            ):
                self._check_applies(network, task.images, masks)
                with (
                    preserve(network),
                    seed_generators(seed),
                    fast_calls(network, many=many),
                    count_passes(network, cost),
                ):
                    maps = self.explain_in_batches(network, task.images, task.targets, masks)
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

    def _check_applies(self, network: nn.Module, images: Tensor, masks: Tensor | None) -> None:
        if self.needs_masks and masks is None:
            raise ContractError(f"{self.name} needs evidence masks and this data set gave none")
        remember_shape(network, images.shape[1:])
        reason = reason_of_closed_layers(network) if self.needs_layers else None
        reason = reason or self.refusal(network)
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

"""Base classes of the CAM family: the last feature map, its gradient, and the way back to the image.

The layer is the one that LAP's head reads (`interp_core.backbone.inspect.feature_layer`), and cells are positioned as
LAP positions them (`interp_core.backbone.geometry.resize`), so that no explainer has an advantage by its layer or its
resizing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer
from baselines.support.gradients import target_logits
from baselines.support.trial import inspect_at_known_size
from interp_core.backbone.geometry import resize
from interp_core.backbone.inspect import FeatureLayer, feature_layer
from interp_core.errors import BackboneError

Objective = Callable[[Tensor, Tensor], Tensor]

# Finding the layer takes forward passes, which are not a cost of the method. `refusal` runs before the clock starts,
# and its result is cached while the network has that module.
_layers: WeakKeyDictionary[nn.Module, FeatureLayer] = WeakKeyDictionary()


def last_layer(model: nn.Module) -> FeatureLayer:
    """Find the layer whose output is the last feature map; the result is cached.

    Raises:
        BackboneError: there is none.
    """
    layer = _layers.get(model)
    if layer is None or dict(getattr(model, "backbone", model).named_modules()).get(layer.name) is not layer.module:
        layer = _layers[model] = feature_layer(model, inspect_at_known_size(model))
    return layer


def run_with_hook(
    model: nn.Module, layer: nn.Module, images: Tensor, change: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Run one forward pass; return the output of `layer` after `change`, and the logits of `images`."""
    outputs: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        outputs.append(change(output))
        return outputs[-1].clone()  # later modules may change it in place

    handle = layer.register_forward_hook(hook)
    try:
        logits = model(images)
    finally:
        handle.remove()
    return outputs[-1], logits


def reason_without_last_layer(model: nn.Module) -> str | None:
    """Return why no single module outputs the last feature map; None if one does."""
    try:
        last_layer(model)
    except BackboneError as error:
        return str(error)
    return None


def last_features(model: nn.Module, layer: FeatureLayer, images: Tensor) -> Tensor:
    """Compute the last features (N, C, h, w), from one forward pass without gradients."""
    with torch.no_grad():
        return run_with_hook(model, layer.module, images, lambda output: output)[0]


def features_and_gradients(
    model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor, objective: Objective = target_logits
) -> tuple[Tensor, Tensor]:
    """Compute the last features A and d objective / d A, (N, C, h, w) each, from one pass forward and back.

    Args:
        model: the network.
        layer: its layer of the last features.
        images: (N, C, H, W).
        targets: (N,).
        objective: from logits (N, K) and targets to the values (N,) that are differentiated.
    """
    with torch.enable_grad():
        features, logits = run_with_hook(model, layer.module, images, lambda output: output.detach().requires_grad_())
        gradients = torch.autograd.grad(objective(logits, targets).sum(), features)[0]
    return features.detach(), gradients


class Cam(Explainer):
    """Explainer whose map lies on the cells of the last feature map. Subclasses write `cells`.

    Fields:
        aligned: resize with cells on the centres of their receptive fields, as LAP does, so that neither has an
            advantage; if false, as if cells tiled the image, as is usual.
        internal_batch_size: images that go through the model at once.
    """

    needs_layers: ClassVar[bool] = True
    signed: ClassVar[bool] = False

    aligned: bool = True
    internal_batch_size: int = Field(32, ge=1)

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, h, w) on the cells of `layer`."""
        raise NotImplementedError(f"{type(self).__name__} must define cells")

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model in which no single module outputs the last feature map."""
        return reason_without_last_layer(model)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return maps (N, 1, H, W) if aligned, else (N, 1, h, w) at the resolution of the last features."""
        layer = last_layer(model)
        maps = self.cells(model, layer, images, targets)
        height, width = images.shape[-2:]
        grid = layer.grid_of((height, width)).shown()
        return resize(maps, height, width, grid) if self.aligned else maps


class GradientCam(Cam):
    """Map made of the last features and their gradient. Subclasses write `combine`."""

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        """Combine features A and gradients d logit / d A, (N, C, h, w) each, into maps (N, 1, h, w)."""
        raise NotImplementedError(f"{type(self).__name__} must define combine")

    def objective(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute what is differentiated, (N,), from logits (N, K) and targets (N,): the targets' logits."""
        return target_logits(logits, targets)

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, h, w), from one forward and one backward pass."""
        return self.combine(*features_and_gradients(model, layer, images, targets, self.objective))

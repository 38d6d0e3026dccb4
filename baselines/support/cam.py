"""What the explainers of the CAM family share: the last feature map, its gradient, and the way back to the image.

The layer is the one LAP's head looks at (`interp_core.backbone.inspect.feature_layer`), and cells go where LAP
puts them
(`interp_core.backbone.geometry.resize`), so that no explainer has an advantage by its layer or its resizing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer
from baselines.support.gradients import in_parts, of_target
from interp_core.backbone.geometry import resize
from interp_core.backbone.inspect import FeatureLayer, feature_layer
from interp_core.errors import BackboneError

# Finding the layer takes forward passes, which are no part of any method: `unsupported` runs before the clock starts,
# and what it found is kept while the network has that module.
_found: WeakKeyDictionary[nn.Module, FeatureLayer] = WeakKeyDictionary()


def last_layer(model: nn.Module) -> FeatureLayer:
    """The layer that puts out the last feature map, looked for once.

    Raises:
        BackboneError: there is none.
    """
    known = _found.get(model)
    if known is None or dict(getattr(model, "backbone", model).named_modules()).get(known.name) is not known.module:
        known = _found[model] = feature_layer(model)
    return known


def run_with(
    model: nn.Module, layer: nn.Module, images: Tensor, change: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Output of `layer` after `change`, and the logits of `images`, from one forward pass."""
    kept: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        kept.append(change(output))
        return kept[-1].clone()  # what follows may change it in place

    handle = layer.register_forward_hook(hook)
    try:
        logits = model(images)
    finally:
        handle.remove()
    return kept[-1], logits


def last_features(model: nn.Module, layer: FeatureLayer, images: Tensor) -> Tensor:
    """Last features (N, C, h, w), from one forward pass without gradients."""
    with torch.no_grad():
        return run_with(model, layer.module, images, lambda output: output)[0]


def features_and_gradients(
    model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Last features A and d logit_target / d A, (N, C, h, w) each, from one forward and one backward pass."""
    with torch.enable_grad():
        features, logits = run_with(model, layer.module, images, lambda output: output.detach().requires_grad_())
        gradients = torch.autograd.grad(of_target(logits, targets).sum(), features)[0]
    return features.detach(), gradients


class Cam(Explainer):
    """An explainer whose map lies on the cells of the last feature map. Subclasses write `cells`.

    Fields:
        aligned: resize with cells on the centres of their receptive fields, as LAP does, so that neither has an
            advantage; otherwise as if cells tiled the image, as usual.
        internal_batch_size: images that go through the model at once.
    """

    signed: ClassVar[bool] = False

    aligned: bool = True
    internal_batch_size: int = Field(32, ge=1)

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, h, w) on the cells of `layer`."""
        raise NotImplementedError(f"{type(self).__name__} must define cells")

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason if no single module of `model` puts out the last feature map."""
        try:
            last_layer(model)
        except BackboneError as error:
            return str(error)
        return None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, h, w), aligned ones at the resolution of the images, else at that of the last features."""
        layer = last_layer(model)

        def one(part: Tensor, labels: Tensor) -> Tensor:
            return self.cells(model, layer, part, labels)

        maps = in_parts(one, images, targets, self.internal_batch_size)
        height, width = images.shape[-2:]
        return resize(maps, height, width, layer.first, layer.pitch) if self.aligned else maps


class GradientCam(Cam):
    """A map made of the last features and their gradient. Subclasses write `combine`."""

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        """Maps (N, 1, h, w) of features A and gradients d logit / d A, (N, C, h, w) each."""
        raise NotImplementedError(f"{type(self).__name__} must define combine")

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, h, w), from one forward and one backward pass."""
        return self.combine(*features_and_gradients(model, layer, images, targets))

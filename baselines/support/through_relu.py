"""Base class of guided backprop and deconvolution: gradients with captum's rules for nn.ReLU modules."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer
from baselines.support.gradients import max_magnitude
from baselines.support.modules import caveat_of_other_activations, refusal_without_relu

Method = Literal["GuidedBackprop", "Deconvolution"]


def captum_relu_gradients(method: Method, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Compute gradients (N, C, H, W) of the targets' logits with captum's rule of this name at every ReLU."""
    import captum.attr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", UserWarning)
        attribution = getattr(captum.attr, method)(model)
        gradients: Tensor = attribution.attribute(images.detach().requires_grad_(), target=targets)
        return gradients.detach()


class ReluGradient(Explainer):
    """Largest magnitude of such a gradient over the channels; subclasses name the `method`.

    Fields:
        internal_batch_size: images that go through the model at once.
    """

    needs_layers: ClassVar[bool] = True
    signed: ClassVar[bool] = False
    method: ClassVar[Method]

    internal_batch_size: int = Field(32, ge=1)

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model without ReLU modules."""
        return refusal_without_relu(model)

    def caveat(self, model: nn.Module) -> str | None:
        """Name activations that keep their derivative."""
        return caveat_of_other_activations(model)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""
        return max_magnitude(captum_relu_gradients(self.method, model, images, targets))

"""What guided backprop and deconvolution share: captum replaces what nn.ReLU modules hand back, and nothing else."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer
from baselines.support.gradients import in_parts, largest
from baselines.support.modules import other_than_relu, without_relu

Method = Literal["GuidedBackprop", "Deconvolution"]


def replaced_gradients(method: Method, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Gradients (N, C, H, W) of the targets' logits with captum's rule of this name at every ReLU."""
    import captum.attr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", UserWarning)
        found: Tensor = getattr(captum.attr, method)(model).attribute(images.detach().requires_grad_(), target=targets)
        return found.detach()


class ThroughRelu(Explainer):
    """Largest magnitude of such a gradient over the channels; subclasses name the `method`.

    Fields:
        internal_batch_size: images that go through the model at once.
    """

    signed: ClassVar[bool] = False
    method: ClassVar[Method]

    internal_batch_size: int = Field(32, ge=1)

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason where there is no ReLU module."""
        return without_relu(model)

    def caveat(self, model: nn.Module) -> str | None:
        """Activations that keep their derivative."""
        return other_than_relu(model)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) >= 0."""

        def one(part: Tensor, labels: Tensor) -> Tensor:
            return largest(replaced_gradients(self.method, model, part, labels))

        return in_parts(one, images, targets, self.internal_batch_size)

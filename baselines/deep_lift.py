"""DeepLIFT through captum: differences from a baseline propagated back through the network, rescale rule.

Idea: the derivative of every nonlinearity is replaced by (f(x) - f(b)) / (x - b), so that the values sum to
logit(x) - logit(b).
Paper: Shrikumar et al., ICML 2017.
Library: captum `DeepLift`.
Baseline: 0 in normalised space, the mean of the data set.
Budget: one pass.
Cost: 2 forwards (image and baseline), 2 backwards.
Not valid: networks on which the sum is wrong by more than 10 % on noise (squeeze-and-excitation, SiLU, GELU,
attention, LAP with strong attention), or that use an activation module twice: refused. Flagged above 1 %, and where it
cannot be tried.
Known limits: captum has rules for ReLU, ELU, LeakyReLU, Sigmoid, Tanh, Softplus, max pooling and Softmax modules.
Everything else keeps its derivative and breaks the sum without a warning, products of two signals above all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.modules import activations
from baselines.support.trial import cache_by_weights, probe_image, relative_gap
from interp_core import LapModel
from interp_core.backbone.trace import Trace

FLAGGED, REFUSED = 0.01, 0.1
COVERED = {"ReLU", "ELU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus"}
# Attributes that captum stores on modules between its passes, and does not remove when a pass fails.
_CAPTUM_ATTRIBUTES = ("input", "output", "input_ref", "output_ref")


@contextmanager
def remove_captum_state(model: nn.Module) -> Iterator[None]:
    """Remove on exit the tensors that captum stored on modules."""
    before = {module: set(vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, names in before.items():
            for name in set(_CAPTUM_ATTRIBUTES) & (set(vars(module)) - names):
                delattr(module, name)


def deep_lift(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Compute values (N, C, H, W), relative to the baseline 0."""
    import captum.attr

    with warnings.catch_warnings(), remove_captum_state(model):
        warnings.filterwarnings("ignore", r"(?s)Setting forward, backward hooks", UserWarning)
        method = captum.attr.DeepLift(model)
        values: Tensor = method.attribute(images.detach().requires_grad_(), baselines=0.0, target=targets)
        return values.detach()


def reused_activations(model: nn.Module, image: Tensor) -> list[str]:
    """List the modules with a rule that one forward pass calls more than once."""
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    trace = Trace(model)
    with torch.no_grad(), trace.watching():
        model(image)
    return [
        name for name, calls in trace.calls.items() if calls > 1 and type(trace.modules[name]) in SUPPORTED_NON_LINEAR
    ]


@cache_by_weights
def try_on_noise(model: nn.Module) -> str | float | None:
    """Try DeepLIFT on noise: return why it cannot run, or the relative error of the sum; None if not tried."""
    image = probe_image(model)
    if image is None:
        return None
    reused = reused_activations(model, image)
    if reused:
        return f"captum cannot follow modules that are called more than once: {', '.join(reused[:3])}"
    with torch.no_grad():
        change = (model(image) - model(torch.zeros_like(image)))[0]
    target = change.abs().argmax()[None]
    return relative_gap(deep_lift(model, image, target).sum(), change[target])


def _describe_gap(model: nn.Module, gap: float) -> str:
    gates = ["the gates of LAP"] if isinstance(model, LapModel) else []
    unruled = ", ".join([*gates, *sorted(activations(model) - COVERED)]) or "products, gates and functional calls"
    return f"on noise its values miss the change of the logit by {gap:.1%}; it has no rule for {unruled}"


@explainers.register("deep_lift")
class DeepLift(Explainer):
    """Differences from the data mean, which sum to the difference of the logits.

    Fields:
        internal_batch_size: images that go through the model at once, each with its baseline.
    """

    title: ClassVar[str] = "DeepLIFT"
    needs_layers: ClassVar[bool] = True
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Shrikumar et al. 2017; captum DeepLift"

    internal_batch_size: int = Field(16, ge=1)

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model on which captum cannot run, or the sum is wrong by more than 10 %."""
        outcome = try_on_noise(model)
        if isinstance(outcome, float):
            return _describe_gap(model, outcome) if outcome > REFUSED else None
        return outcome

    def caveat(self, model: nn.Module) -> str | None:
        """Report a sum that is wrong by more than 1 %, or that could not be tried."""
        outcome = try_on_noise(model)
        if isinstance(outcome, float):
            return _describe_gap(model, outcome) if outcome > FLAGGED else None
        return outcome or "whether its values sum to the change of the logit was not tried: the image size is not known"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute values (N, C, H, W), one per channel."""
        return deep_lift(model, images, targets)

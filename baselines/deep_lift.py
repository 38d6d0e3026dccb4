"""DeepLIFT through captum: differences from a baseline handed back through the network, rescale rule.

Idea: in place of its derivative every nonlinearity gets (f(x) - f(b)) / (x - b), so that the values sum to
logit(x) - logit(b).
Paper: Shrikumar et al., ICML 2017.
Library: captum `DeepLift`.
Baseline: 0 in normalised space, the mean of the data set.
Budget: one pass.
Cost: 2 forwards (image and baseline), 2 backwards.
Not valid: networks on which the sum is missed by more than a tenth on noise (squeeze-and-excitation, SiLU, GELU,
attention, LAP with much attention), or that use an activation module twice: refused; from one percent on, or where
it cannot be tried: flagged.
Known limits: captum has rules for ReLU, ELU, LeakyReLU, Sigmoid, Tanh, Softplus, max pooling and Softmax where they are
modules; all else keeps its derivative and breaks the sum without a word, products of two signals above all.
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
from baselines.support.gradients import in_parts
from baselines.support.modules import activations
from baselines.support.trial import probe_image, relative_gap, remembered
from interp_core import LapModel
from interp_core.backbone.trace import Trace

FLAGGED, REFUSED = 0.01, 0.1
COVERED = {"ReLU", "ELU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus"}
# What captum keeps on modules between its passes, and forgets when a pass fails.
_LEFT_BEHIND = ("input", "output", "input_ref", "output_ref")


@contextmanager
def swept(model: nn.Module) -> Iterator[None]:
    """Afterwards no module keeps a tensor that captum put on it."""
    before = {module: set(vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, names in before.items():
            for name in set(_LEFT_BEHIND) & (set(vars(module)) - names):
                delattr(module, name)


def deep_lift(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Values (N, C, H, W), relative to 0."""
    import captum.attr

    with warnings.catch_warnings(), swept(model):
        warnings.filterwarnings("ignore", r"(?s)Setting forward, backward hooks", UserWarning)
        return (
            captum.attr.DeepLift(model)
            .attribute(images.detach().requires_grad_(), baselines=0.0, target=targets)
            .detach()
        )


def used_twice(model: nn.Module, image: Tensor) -> list[str]:
    """Names of modules with a rule that one forward pass calls more than once."""
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    trace = Trace(model)
    with torch.no_grad(), trace.watching():
        model(image)
    return [
        name for name, calls in trace.calls.items() if calls > 1 and type(trace.modules[name]) in SUPPORTED_NON_LINEAR
    ]


@remembered
def fault(model: nn.Module) -> str | float | None:
    """What DeepLIFT does on noise: a reason it cannot run, or by how much it misses the sum; None if not tried."""
    image = probe_image(model)
    if image is None:
        return None
    twice = used_twice(model, image)
    if twice:
        return f"captum cannot follow modules that are called more than once: {', '.join(twice[:3])}"
    with torch.no_grad():
        change = (model(image) - model(torch.zeros_like(image)))[0]
    target = change.abs().argmax()[None]
    return relative_gap(deep_lift(model, image, target).sum(), change[target])


def _missed(model: nn.Module, gap: float) -> str:
    others = sorted(activations(model) - COVERED)
    gates = ["the gates of LAP"] if isinstance(model, LapModel) else []
    without = ", ".join([*gates, *others]) or "products, gates and functional calls"
    return f"on noise its values miss the change of the logit by {gap:.1%}; it has no rule for {without}"


@explainers.register("deep_lift")
class DeepLift(Explainer):
    """Differences from the data mean; sums to the difference of the logits.

    Fields:
        internal_batch_size: images that go through the model at once, each with its baseline.
    """

    title: ClassVar[str] = "DeepLIFT"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Shrikumar et al. 2017; captum DeepLift"

    internal_batch_size: int = Field(16, ge=1)

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason where captum cannot run, or the sum is missed by more than a tenth."""
        found = fault(model)
        if isinstance(found, float):
            return _missed(model, found) if found > REFUSED else None
        return found

    def caveat(self, model: nn.Module) -> str | None:
        """A sum that is missed by more than a percent, or that could not be tried."""
        found = fault(model)
        if isinstance(found, float):
            return _missed(model, found) if found > FLAGGED else None
        return found or "whether its values sum to the change of the logit was not tried: the image size is not known"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Values (N, C, H, W), one per channel."""

        def one(part: Tensor, labels: Tensor) -> Tensor:
            return deep_lift(model, part, labels)

        return in_parts(one, images, targets, self.internal_batch_size)

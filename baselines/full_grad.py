"""FullGrad: the contributions of the input and of every bias to the logit, as magnitudes on the image.

Idea: a piecewise linear network is f(x) = x . df/dx + sum_l b_l . df/db_l exactly, with b_l(p) the bias of layer l at
position p; the shift of a batch norm is a bias too. The map is psi(x * df/dx) + sum_l sum_c psi(b_l * df/db_l), where
psi takes the magnitude, stretches it to [0, 1] in each layer of each image, and resizes it to the image.
Paper: Srinivas and Fleuret, NeurIPS 2019.
Library: own code; captum has none. Biases are intercepted as functions (`baselines.support.between`).
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks that are not piecewise linear (SiLU, GELU, layer norm, attention), on which the sum is wrong by more
than 10 % on noise: refused. Flagged above 1 %, and where it cannot be tried. Gates of LAP and of squeeze-and-excitation
are held constant, since the identity does not hold otherwise: flagged.
Known limits: biases of dense layers have no position and are not in the map. Cells are resized as if they tiled the
image, as in the paper.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.between import (
    PRODUCTS,
    UNCHANGED,
    FunctionRules,
    detach,
    is_signal,
    same_logits,
    signal_and_gate,
)
from baselines.support.gradients import target_logits
from baselines.support.trial import cache_by_weights, probe_image, relative_gap

FLAGGED, REFUSED = 0.01, 0.1


class Biases:
    """Biases of one forward pass, each as a separate leaf of the graph.

    Attributes:
        tensors: b_l at every position, of the shape of its layer's output.
        gates: number of products treated as a signal and a gate; complete after the backward pass.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.gates = 0
        affine = {"conv1d": self._affine, "conv2d": self._affine, "conv3d": self._affine, "linear": self._affine}
        self.mode = FunctionRules(affine | {"batch_norm": self._norm} | dict.fromkeys(PRODUCTS, self._product))

    def _add_bias(self, output: Tensor, bias: Tensor) -> Tensor:
        """Add the bias (C,) to the output as a leaf of the same shape, and record the leaf."""
        shape = (1, -1) if output.ndim == 2 else (1, -1, *(1 for _ in output.shape[2:]))
        self.tensors.append(bias.detach().view(shape).expand_as(output).clone().requires_grad_())
        return output + self.tensors[-1]

    def _affine(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = list(args), dict(kwargs)  # type: ignore[assignment]
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        if bias is None or not is_signal(args[0]) or (function.__name__ == "linear" and args[0].ndim != 2):
            return UNCHANGED
        if len(args) > 2:
            args[2] = None  # type: ignore[index]
        else:
            kwargs["bias"] = None
        return self._add_bias(function(*args, **kwargs), bias)

    def _norm(self, _function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        values = dict(zip(names, args, strict=False)) | kwargs
        mean, var = values.get("running_mean"), values.get("running_var")
        if values.get("training") or mean is None or var is None or not is_signal(values["input"]):
            return UNCHANGED
        scale = (var + values.get("eps", 1e-5)).rsqrt()
        scale = scale if values.get("weight") is None else scale * values["weight"]
        shift = -mean * scale if values.get("bias") is None else values["bias"] - mean * scale
        x = values["input"]
        return self._add_bias(x * scale.detach().view(1, -1, *(1 for _ in x.shape[2:])), shift)

    def _product(self, _function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        factors = signal_and_gate(args)
        if factors is None or kwargs or not is_signal(factors[1]):
            return UNCHANGED
        gated = factors[0] * detach(factors[1])
        gated.register_hook(self._count)
        return gated

    def _count(self, _gradient: Tensor) -> None:
        self.gates += 1


def decompose(model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, list[Tensor], int]:
    """Decompose the logit into contributions of the input and the biases.

    Returns:
        Logits (N, K), x * df/dx (N, C, H, W), b * df/db of every bias the logit depends on, and the number of gates.
    """
    biases = Biases()
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        with biases.mode:
            logits = model(leaf)
        leaves = [leaf, *biases.tensors]
        gradients = torch.autograd.grad(target_logits(logits, targets).sum(), leaves, allow_unused=True)
    products = [(leaf * grad).detach() for leaf, grad in zip(leaves, gradients, strict=True) if grad is not None]
    return logits.detach(), products[0], products[1:], biases.gates


@cache_by_weights
def try_on_noise(model: nn.Module) -> tuple[float, int] | None:
    """Try the decomposition on noise: relative error of the sum, and number of gates; None if not tried."""
    image = probe_image(model)
    if image is None:
        return None
    with torch.no_grad():
        logits = model(image)
    target = logits.abs().argmax(1)
    decomposed_logits, inputs, biases, gates = decompose(model, image, target)
    if not same_logits(logits, decomposed_logits):
        return float("inf"), gates
    return relative_gap(sum((b.sum() for b in biases), inputs.sum()), target_logits(logits, target)), gates


def stretch_magnitudes(values: Tensor) -> Tensor:
    """Stretch the magnitudes of values (N, C, h, w) to [0, 1] in each image."""
    size = values.abs()
    low, high = size.amin((1, 2, 3), keepdim=True), size.amax((1, 2, 3), keepdim=True)
    return (size - low) / (high - low).where(high > low, 1.0)


@explainers.register("full_grad")
class FullGrad(Explainer):
    """Magnitudes of the contributions of the input and the biases to the logit.

    Fields:
        internal_batch_size: images that go through the model at once; each needs memory for one map of every layer.
    """

    title: ClassVar[str] = "FullGrad"
    needs_layers: ClassVar[bool] = True
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "Srinivas and Fleuret 2019"

    internal_batch_size: int = Field(8, ge=1)

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model on which the sum is wrong by more than 10 %."""
        outcome = try_on_noise(model)
        if outcome is None or outcome[0] <= REFUSED:
            return None
        return f"on noise input and biases miss the logit by {outcome[0]:.1%}: it is not piecewise linear"

    def caveat(self, model: nn.Module) -> str | None:
        """Report a sum that is wrong by more than 1 % or could not be tried, and gates held constant."""
        outcome = try_on_noise(model)
        if outcome is None:
            return "whether its parts sum to the logit was not tried: the image size is not known"
        gap, gates = outcome
        reasons = [f"on noise its parts miss the logit by {gap:.1%}"] if gap > FLAGGED else []
        reasons += [f"{gates} gates are held constant"] if gates else []
        return "; ".join(reasons) or None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""
        _, inputs, biases, _ = decompose(model, images, targets)
        return sum((_resize_sum(bias, images) for bias in biases if bias.ndim == 4), _resize_sum(inputs, images))


def _resize_sum(values: Tensor, images: Tensor) -> Tensor:
    """Sum the magnitudes of one layer over its channels, and resize them to (N, 1, H, W)."""
    total = stretch_magnitudes(values).sum(1, keepdim=True)
    return F.interpolate(total, images.shape[-2:], mode="bilinear", align_corners=False)

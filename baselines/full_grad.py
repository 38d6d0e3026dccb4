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

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.between import (
    ADDITIONS,
    PRODUCTS,
    SUBTRACTIONS,
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

    Args:
        constants: whether constants that the network adds or takes away, as to normalise its images, count as biases.

    Attributes:
        tensors: b_l at every position, of the shape of its layer's output.
        gates: number of products treated as a signal and a gate; complete after the backward pass.
    """

    def __init__(self, *, constants: bool = False) -> None:
        self.tensors: list[Tensor] = []
        self.gates = 0
        affine = {"conv1d": self._affine, "conv2d": self._affine, "conv3d": self._affine, "linear": self._affine}
        rules = affine | {"batch_norm": self._norm} | dict.fromkeys(PRODUCTS, self._product)
        if constants:
            rules |= dict.fromkeys(ADDITIONS, self._sum) | dict.fromkeys(SUBTRACTIONS, self._difference)
        self.mode = FunctionRules(rules)

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

    def _sum(self, _function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        signals = [is_signal(part) for part in args[:2]]
        if kwargs or sum(signals) != 1:
            return UNCHANGED
        signal, constant = args[:2] if signals[0] else args[1::-1]
        return self._add_constant(signal, constant)

    def _difference(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs or not is_signal(args[0]) or is_signal(args[1]):
            return UNCHANGED
        is_reversed = function.__name__ in ("rsub", "__rsub__")
        return self._add_constant(-args[0] if is_reversed else args[0], args[1] if is_reversed else -args[1])

    def _add_constant(self, signal: Tensor, constant: Any) -> Tensor:
        """Add a constant as a leaf of the sum's shape, and record the leaf."""
        values = torch.as_tensor(constant).to(signal)
        shape = torch.broadcast_shapes(signal.shape, values.shape)
        self.tensors.append(values.detach().expand(shape).clone().requires_grad_())
        return signal + self.tensors[-1]

    def _product(self, _function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        factors = signal_and_gate(args)
        if factors is None or kwargs or not is_signal(factors[1]):
            return UNCHANGED
        gated = factors[0] * detach(factors[1])
        gated.register_hook(self._count)
        return gated

    def _count(self, _gradient: Tensor) -> None:
        self.gates += 1


def decompose(
    model: nn.Module, images: Tensor, targets: Tensor, *, constants: bool = False
) -> tuple[Tensor, Tensor, list[Tensor], int]:
    """Decompose the logit into contributions of the input and the biases.

    Args:
        model: network from images to logits (N, K).
        images: (N, C, H, W).
        targets: (N,).
        constants: see `Biases`.

    Returns:
        Logits (N, K), x * df/dx (N, C, H, W), b * df/db of every bias the logit depends on, and the number of gates.
    """
    biases = Biases(constants=constants)
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        with biases.mode:
            logits = model(leaf)
        leaves = [leaf, *biases.tensors]
        gradients = torch.autograd.grad(target_logits(logits, targets).sum(), leaves, allow_unused=True)
    products = [(leaf * grad).detach() for leaf, grad in zip(leaves, gradients, strict=True) if grad is not None]
    return logits.detach(), products[0], products[1:], biases.gates


@dataclass(frozen=True)
class Trial:
    """Outcome of the decomposition on noise.

    Attributes:
        gap: relative error of the sum; infinite where the logits themselves change.
        gates: number of gates held constant.
        constants: whether constants between the layers count as biases, since the sum is wrong without them.
    """

    gap: float
    gates: int
    constants: bool = False


@cache_by_weights
def try_on_noise(model: nn.Module) -> Trial | None:
    """Try the decomposition on noise; None if that is not possible."""
    image = probe_image(model)
    if image is None:
        return None
    with torch.no_grad():
        logits = model(image)
    trial = _try(model, image, logits, constants=False)
    if trial.gap <= FLAGGED:
        return trial
    other = _try(model, image, logits, constants=True)
    cannot_be_followed = trial.gap > REFUSED and other.gap == float("inf")
    return other if cannot_be_followed else min(trial, other, key=lambda attempt: attempt.gap)


def _try(model: nn.Module, image: Tensor, logits: Tensor, *, constants: bool) -> Trial:
    """Compare the sum of the parts with the largest logit of an image (1, C, H, W)."""
    target = logits.abs().argmax(1)
    decomposed_logits, inputs, biases, gates = decompose(model, image, target, constants=constants)
    if not same_logits(logits, decomposed_logits):
        return Trial(float("inf"), gates, constants)
    total = sum((bias.sum() for bias in biases), inputs.sum())
    return Trial(relative_gap(total, target_logits(logits, target)), gates, constants)


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
        trial = try_on_noise(model)
        if trial is None or trial.gap <= REFUSED:
            return None
        if trial.gap == float("inf"):
            return "it adds constants in place; let its forward assign results instead, as in x = (x - mean) / std"
        return f"on noise input and biases miss the logit by {trial.gap:.1%}: it is not piecewise linear"

    def caveat(self, model: nn.Module) -> str | None:
        """Report a sum that is wrong by more than 1 % or could not be tried, and gates held constant."""
        trial = try_on_noise(model)
        if trial is None:
            return "whether its parts sum to the logit was not tried: the image size is not known"
        reasons = [f"on noise its parts miss the logit by {trial.gap:.1%}"] if trial.gap > FLAGGED else []
        reasons += [f"{trial.gates} gates are held constant"] if trial.gates else []
        return "; ".join(reasons) or None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) >= 0."""
        trial = try_on_noise(model)
        _, inputs, biases, _ = decompose(model, images, targets, constants=trial is not None and trial.constants)
        return sum((_resize_sum(bias, images) for bias in biases if bias.ndim == 4), _resize_sum(inputs, images))


def _resize_sum(values: Tensor, images: Tensor) -> Tensor:
    """Sum the magnitudes of one layer over its channels, and resize them to (N, 1, H, W)."""
    total = stretch_magnitudes(values).sum(1, keepdim=True)
    return F.interpolate(total, images.shape[-2:], mode="bilinear", align_corners=False)

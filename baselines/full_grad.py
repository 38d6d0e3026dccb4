"""FullGrad: the logit as what the input and every bias give to it; their magnitudes, layer by layer, on the image.

Idea: a piecewise linear network is f(x) = x . df/dx + sum_l b_l . df/db_l exactly, with b_l(p) the bias of layer l at
position p, a batch norm's shift among them. The map is psi(x * df/dx) + sum_l sum_c psi(b_l * df/db_l), with psi the
magnitude, stretched to [0, 1] in each layer of each image and enlarged.
Paper: Srinivas and Fleuret, NeurIPS 2019.
Library: own code; captum has none. Biases are met as functions (`baselines.support.between`), wherever they are added.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward.
Not valid: networks that are not piecewise linear (SiLU, GELU, layer norm, attention), on which the sum is missed by
more than a tenth on noise: refused; from one percent on, or where it cannot be tried: flagged. Gates, LAP's and
those of squeeze-and-excitation, are held constant, without which the identity does not hold: flagged.
Known limits: biases of dense layers have no position and are left out of the map; cells are enlarged as if they tiled
the image, as in the paper.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.between import PRODUCTS, UNCHANGED, Functions, detached, is_signal, same_logits, signal_and_gate
from baselines.support.gradients import in_parts, of_target
from baselines.support.trial import probe_image, relative_gap, remembered

FLAGGED, REFUSED = 0.01, 0.1


class Biases:
    """The biases of one forward pass, each as a tensor of its own that a gradient flows to.

    Attributes:
        found: b_l at every position, of the shape of its layer's output.
        gates: how many products on the way to the logit were taken as a signal and a gate; known after the backward
            pass.
    """

    def __init__(self) -> None:
        self.found: list[Tensor] = []
        self.gates = 0
        affine = {"conv1d": self._affine, "conv2d": self._affine, "conv3d": self._affine, "linear": self._affine}
        self.mode = Functions(affine | {"batch_norm": self._norm} | dict.fromkeys(PRODUCTS, self._product))

    def _with(self, output: Tensor, bias: Tensor) -> Tensor:
        """`output` + `bias` (C,), the bias spread and kept."""
        shape = (1, -1) if output.ndim == 2 else (1, -1, *(1 for _ in output.shape[2:]))
        self.found.append(bias.detach().view(shape).expand_as(output).clone().requires_grad_())
        return output + self.found[-1]

    def _affine(self, function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        args, kwargs = list(args), dict(kwargs)  # type: ignore[assignment]
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        if bias is None or not is_signal(args[0]) or (function.__name__ == "linear" and args[0].ndim != 2):
            return UNCHANGED
        if len(args) > 2:
            args[2] = None  # type: ignore[index]
        else:
            kwargs["bias"] = None
        return self._with(function(*args, **kwargs), bias)

    def _norm(self, _function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = dict(zip(names, args, strict=False)) | kwargs
        mean, var = given.get("running_mean"), given.get("running_var")
        if given.get("training") or mean is None or var is None or not is_signal(given["input"]):
            return UNCHANGED
        scale = (var + given.get("eps", 1e-5)).rsqrt()
        scale = scale if given.get("weight") is None else scale * given["weight"]
        shift = -mean * scale if given.get("bias") is None else given["bias"] - mean * scale
        x = given["input"]
        return self._with(x * scale.detach().view(1, -1, *(1 for _ in x.shape[2:])), shift)

    def _product(self, _function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        found = signal_and_gate(args)
        if found is None or kwargs or not is_signal(found[1]):
            return UNCHANGED
        gated = found[0] * detached(found[1])
        gated.register_hook(self._count)
        return gated

    def _count(self, _gradient: Tensor) -> None:
        self.gates += 1


def decompose(model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, list[Tensor], int]:
    """The logit in parts.

    Returns:
        Logits (N, K), x * df/dx (N, C, H, W), b * df/db of every bias the logit depends on, and the number of gates.
    """
    biases = Biases()
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        with biases.mode:
            logits = model(leaf)
        parts = [leaf, *biases.found]
        gradients = torch.autograd.grad(of_target(logits, targets).sum(), parts, allow_unused=True)
    shares = [(part * grad).detach() for part, grad in zip(parts, gradients, strict=True) if grad is not None]
    return logits.detach(), shares[0], shares[1:], biases.gates


@remembered
def found_on_noise(model: nn.Module) -> tuple[float, int] | None:
    """By how much the parts miss the logit, and the number of gates held constant; None if not tried."""
    image = probe_image(model)
    if image is None:
        return None
    with torch.no_grad():
        logits = model(image)
    target = logits.abs().argmax(1)
    again, inputs, biases, gates = decompose(model, image, target)
    if not same_logits(logits, again):
        return float("inf"), gates
    return relative_gap(sum((b.sum() for b in biases), inputs.sum()), of_target(logits, target)), gates


def stretched(parts: Tensor) -> Tensor:
    """Magnitudes of (N, C, h, w), from the least to the greatest of each image as 0 to 1."""
    size = parts.abs()
    low, high = size.amin((1, 2, 3), keepdim=True), size.amax((1, 2, 3), keepdim=True)
    return (size - low) / (high - low).where(high > low, 1.0)


@explainers.register("full_grad")
class FullGrad(Explainer):
    """Magnitudes of what the input and the biases give to the logit.

    Fields:
        internal_batch_size: images that go through the model at once; one map of every layer is kept for each.
    """

    title: ClassVar[str] = "FullGrad"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "Srinivas and Fleuret 2019"

    internal_batch_size: int = Field(8, ge=1)

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason where the parts miss the logit by more than a tenth."""
        found = found_on_noise(model)
        if found is None or found[0] <= REFUSED:
            return None
        return f"on noise input and biases miss the logit by {found[0]:.1%}: it is not piecewise linear"

    def caveat(self, model: nn.Module) -> str | None:
        """Parts that miss the logit by more than a percent, gates held constant, or no trial."""
        found = found_on_noise(model)
        if found is None:
            return "whether its parts sum to the logit was not tried: the image size is not known"
        missed = [f"on noise its parts miss the logit by {found[0]:.1%}"] if found[0] > FLAGGED else []
        gates = [f"{found[1]} gates are held constant"] if found[1] else []
        return "; ".join([*missed, *gates]) or None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) >= 0."""

        def one(part: Tensor, labels: Tensor) -> Tensor:
            _, inputs, biases, _ = decompose(model, part, labels)
            return sum((_enlarged(bias, part) for bias in biases if bias.ndim == 4), _enlarged(inputs, part))

        return in_parts(one, images, targets, self.internal_batch_size)


def _enlarged(parts: Tensor, images: Tensor) -> Tensor:
    """The magnitudes of one layer, summed over its channels, (N, 1, H, W)."""
    # Summed first: enlarging is linear.
    total = stretched(parts).sum(1, keepdim=True)
    return F.interpolate(total, images.shape[-2:], mode="bilinear", align_corners=False)

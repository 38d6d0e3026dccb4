"""A small B-cos network: a linear map that depends on the image, whose contributions add up to the logit.

    u = pixels in [0, 1],  x = (u, 1 - u)          6 channels
    logit_k = gain mean_p f_k(x)(p) + c            f: B-cos convolutions, uncentred norms, residual sums, no biases
    R = sum over channels of x * d logit_k / dx    factors held constant, so that sum R = logit_k - c
    map = positive part of R

c = -log(K - 1), so that each class starts at probability 1 / K under the binary cross-entropy of its training. The
network has the resolutions of the given backbone, and its number of parameters or of multiplications as nearly as one
common width allows. The backbone itself is not used.

Source: Böhle, Fritz and Schiele, CVPR 2022 and TPAMI 2024; the small network is ours.

Known limits: it is trained from scratch, so a trained backbone has no counterpart. The explanation takes a backward
pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import Normalisation, Rival, RivalOptions, collect_notes, labels_of, note, rivals
from benchmarks.rivals.bcos_layers import BcosConv2d, UncentredNorm, constant_factors
from interp_core.backbone.inspect import BackboneInfo, inspect_backbone
from interp_core.backbone.trace import evaluating
from interp_core.datasets.files.resize import timm_preprocessing
from interp_core.errors import ContractError
from interp_core.training import decision_loss

# Widths are tried in steps of 1 / WIDTH_STEPS, since further stages multiply them.
WIDTH_STEPS, MAX_WIDTH = 16, 4096


class BcosOptions(RivalOptions):
    """Parameters of a B-cos network.

    Fields:
        b: exponent B; 1 is a linear network.
        match: count of the backbone that the width is chosen to match, "parameters" or "flops".
        width: channels of the first stage, doubled in each further one and rounded there; None to match.
        depth: convolutions per stage.
        gain: factor of the mean score.
    """

    b: float = Field(2.0, ge=1)
    match: Literal["parameters", "flops"] = "parameters"
    width: float | None = Field(None, gt=0)
    depth: int = Field(2, ge=1)
    gain: float = Field(1.0, gt=0)


class Block(nn.Module):
    """B-cos convolution with norm and skip connection."""

    def __init__(self, channels: int, b: float) -> None:
        super().__init__()
        self.conv, self.norm = BcosConv2d(channels, channels, 3, b=b), UncentredNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Compute features (N, C, h, w) of the same shape."""
        return features + self.norm(self.conv(features))


class BcosNet(nn.Module):
    """The B-cos network, with timm's protocol.

    Args:
        normalisation: mean and standard deviation per channel that normalise its images.
        classes: number of classes K.
        width: channels of the first stage.
        stages: number of stages, each of which halves the resolution.
        options: options of the rival.
        size: rows and columns of the images it is meant for.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        normalisation: Normalisation,
        classes: int,
        width: float,
        stages: int,
        options: BcosOptions,
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), normalisation, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        colours = len(normalisation[0])
        widths = [2 * colours, *(max(1, round(width * 2**stage)) for stage in range(stages))]
        self.stages = nn.Sequential(
            *(_stage(channels_in, channels_out, options) for channels_in, channels_out in pairwise(widths))
        )
        self.classifier = BcosConv2d(widths[-1], classes, 1, b=options.b)
        self.gain, self.constant = options.gain, -math.log(max(classes - 1, 1))
        self.num_features = widths[-1]
        self.pretrained_cfg: dict[str, Any] = {
            "input_size": (colours, *size),
            "mean": normalisation[0],
            "std": normalisation[1],
        }
        self.feature_info = [
            {"module": f"stages.{stage}", "num_chs": widths[stage + 1], "reduction": 2 ** (stage + 1)}
            for stage in range(stages)
        ]

    def encode(self, images: Tensor) -> Tensor:
        """Convert normalised images to pixels and their inverses.

        (N, C, H, W) become (N, 2 C, H, W).
        """
        pixels = images * self.std + self.mean
        return torch.cat([pixels, 1 - pixels], 1)

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the last features (N, C, h, w)."""
        code = self.encode(images)
        note(code=code)
        return self.stages(code)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute the logits (N, K) of features (N, C, h, w)."""
        if pre_logits:
            return features
        return self.gain * self.classifier(features).mean((2, 3)) + self.constant

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, K) of normalised images (N, C, H, W)."""
        return self.forward_head(self.forward_features(images))


@rivals.register("bcos")
class Bcos(Rival[BcosOptions]):
    """A B-cos network of the size of the backbone."""

    title: ClassVar[str] = "B-cos"
    source: ClassVar[str] = "Böhle et al. 2022"
    explains_itself: ClassVar[bool] = True

    def __init__(self, backbone: nn.Module, options: BcosOptions, normalisation: Normalisation | None = None) -> None:
        info = inspect_backbone(backbone, options.image_size)
        used = normalisation or _normalisation_of(backbone, info)
        stages = max(1, round(math.log2(info.reduction)))

        def of_width(width: float) -> BcosNet:
            return BcosNet(used, info.classes, width, stages, options, info.size)

        super().__init__(of_width(options.width or _matching_width(backbone, info, options, of_width)), options)

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Compute the binary cross-entropy of each class."""
        logits = self(images)
        return {"binary_cross_entropy": decision_loss(logits, labels_of(targets, logits.shape[1]))}

    def contributions(self, images: Tensor, targets: Tensor) -> Tensor:
        """Compute the contributions of pixels and their inverses to a logit.

        Args:
            images: (N, C, H, W), normalised.
            targets: (N,) classes.

        Returns:
            R (N, 2 C, H, W); each image's sum is the logit of its target less c.
        """
        with evaluating(self), torch.enable_grad(), collect_notes() as notes, constant_factors():
            logits = self(images.detach().requires_grad_())
            total = logits.gather(1, targets[:, None]).sum()
            (gradients,) = torch.autograd.grad(total, notes["code"])
        return (gradients * notes["code"]).detach()

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return maps (N, 1, H, W) >= 0 of `targets` (N,).

        They take one forward and one backward pass.
        """
        return self.contributions(images, targets).sum(1, keepdim=True).clamp(min=0)


def _stage(channels_in: int, channels_out: int, options: BcosOptions) -> nn.Module:
    first = [BcosConv2d(channels_in, channels_out, 3, 2, options.b), UncentredNorm(channels_out)]
    return nn.Sequential(*first, *(Block(channels_out, options.b) for _ in range(options.depth - 1)))


def _normalisation_of(backbone: nn.Module, info: BackboneInfo) -> Normalisation:
    transform = timm_preprocessing(backbone)
    if len(transform.mean) != info.in_channels:
        raise ContractError(
            f"bcos must know the mean and standard deviation of its images of {info.in_channels} channels: "
            "give build(..., normalisation=...)"
        )
    return transform.mean, transform.std


def _matching_width(
    backbone: nn.Module, info: BackboneInfo, options: BcosOptions, of_width: Callable[[float], BcosNet]
) -> float:
    """Find the width whose network is nearest in size to the backbone, by ratio."""

    def size_of(network: nn.Module, device: torch.device | str) -> int:
        if options.match == "parameters":
            return sum(parameter.numel() for parameter in network.parameters())
        return _flops(network, torch.zeros(1, info.in_channels, *info.size, device=device))

    def size_at(steps: int) -> int:
        with torch.device("meta"):
            return size_of(of_width(steps / WIDTH_STEPS), "meta")

    target = size_of(backbone, next(backbone.parameters()).device)
    low, high = 1, MAX_WIDTH * WIDTH_STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size_at(middle) <= target else (low, middle)
    return min((low, high), key=lambda steps: abs(math.log(size_at(steps) / target))) / WIDTH_STEPS


def _flops(network: nn.Module, images: Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with evaluating(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops()

"""A small B-cos network: one linear map that depends on the image, so that its contributions add up to the logit.

    u = pixels in [0, 1],  x = (u, 1 - u)          6 channels
    logit_k = gain mean_p f_k(x)(p) + c            f: B-cos convolutions, uncentred norms, residual sums, no biases
    R = sum over channels of x * d logit_k / dx    factors held constant, so that sum R = logit_k - c
    map = positive part of R

c = -log(K - 1), so that the classes start at the share of one in K under the binary cross-entropy it is trained with.
The network has the resolutions of the backbone it stands beside, and as near its parameters, or its multiplications,
as one common width allows; the backbone itself is not used.
Source: Böhle, Fritz and Schiele, CVPR 2022 and TPAMI 2024; the small network is ours.
Known limits: trained from scratch, so a trained backbone has no counterpart. The explanation takes a backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmarks.rivals.base import Rival, RivalOptions, Statistics, labels_of, note, noting, rivals
from benchmarks.rivals.bcos_layers import BcosConv2d, UncentredNorm, constant_factors
from interp_core.backbone.inspect import BackboneInfo, inspect_backbone
from interp_core.backbone.trace import evaluating
from interp_core.datasets.files.resize import preprocessing
from interp_core.errors import ContractError
from interp_core.training import decision_loss

FINENESS, MOST_WIDTH = 16, 4096  # widths are tried in sixteenths, since further stages multiply them


class BcosOptions(RivalOptions):
    """Parameters of a B-cos network.

    Fields:
        b: B; 1 is a linear network.
        match: what of the backbone is matched by choice of the width: "parameters" or "flops".
        width: channels of the first stage, doubled in each further one, rounded there; None to match.
        depth: convolutions per stage.
        gain: factor of the mean score.
    """

    b: float = Field(2.0, ge=1)
    match: Literal["parameters", "flops"] = "parameters"
    width: float | None = Field(None, gt=0)
    depth: int = Field(2, ge=1)
    gain: float = Field(1.0, gt=0)


class Block(nn.Module):
    """Normed B-cos convolution, added to what came in."""

    def __init__(self, channels: int, b: float) -> None:
        super().__init__()
        self.conv, self.norm = BcosConv2d(channels, channels, 3, b=b), UncentredNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) of the same shape."""
        return features + self.norm(self.conv(features))


class BcosNet(nn.Module):
    """The network, with timm's protocol.

    Args:
        statistics: mean and standard deviation per channel of the images it takes, in [0, 1] units.
        classes: K.
        width: channels of the first stage.
        stages: halvings of the resolution.
        options: of the rival.
        size: rows and columns of images it is meant for.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        statistics: Statistics,
        classes: int,
        width: float,
        stages: int,
        options: BcosOptions,
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        colours = len(statistics[0])
        widths = [2 * colours, *(max(1, round(width * 2**stage)) for stage in range(stages))]
        self.stages = nn.Sequential(*(_stage(before, after, options) for before, after in pairwise(widths)))
        self.classifier = BcosConv2d(widths[-1], classes, 1, b=options.b)
        self.gain, self.constant = options.gain, -math.log(max(classes - 1, 1))
        self.num_features = widths[-1]
        self.pretrained_cfg: dict[str, Any] = {
            "input_size": (colours, *size),
            "mean": statistics[0],
            "std": statistics[1],
        }
        self.feature_info = [
            {"module": f"stages.{stage}", "num_chs": widths[stage + 1], "reduction": 2 ** (stage + 1)}
            for stage in range(stages)
        ]

    def encoded(self, images: Tensor) -> Tensor:
        """Pixels and their inverses (N, 2 C, H, W) of normalised images (N, C, H, W)."""
        pixels = images * self.std + self.mean
        return torch.cat([pixels, 1 - pixels], 1)

    def forward_features(self, images: Tensor) -> Tensor:
        """Last features (N, C, h, w)."""
        code = self.encoded(images)
        note(code=code)
        return self.stages(code)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (N, K) of features (N, C, h, w)."""
        if pre_logits:
            return features
        return self.gain * self.classifier(features).mean((2, 3)) + self.constant

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of normalised images (N, C, H, W)."""
        return self.forward_head(self.forward_features(images))


@rivals.register("bcos")
class Bcos(Rival):
    """A B-cos network of the size of the backbone."""

    title: ClassVar[str] = "B-cos"
    source: ClassVar[str] = "Böhle et al. 2022"
    Options: ClassVar[type[RivalOptions]] = BcosOptions
    options: BcosOptions
    explains_itself: ClassVar[bool] = True

    def __init__(self, backbone: nn.Module, options: RivalOptions, statistics: Statistics | None = None) -> None:
        assert isinstance(options, BcosOptions)
        beside = inspect_backbone(backbone, options.image_size)
        found = statistics or _statistics(backbone, beside)
        stages = max(1, round(math.log2(beside.reduction)))

        def of_width(width: float) -> BcosNet:
            return BcosNet(found, beside.classes, width, stages, options, beside.size)

        super().__init__(of_width(options.width or _matching(backbone, beside, options, of_width)), options)

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Binary cross-entropy of each class for itself."""
        logits = self(images)
        return {"binary_cross_entropy": decision_loss(logits, labels_of(targets, logits.shape[1]))}

    def contributions(self, images: Tensor, targets: Tensor) -> Tensor:
        """R (N, 2 C, H, W) of pixels and their inverses, summing to the logit of `targets` (N,) less c."""
        with evaluating(self), torch.enable_grad(), noting() as parts, constant_factors():
            logits = self(images.detach().requires_grad_())
            chosen = logits.gather(1, targets[:, None]).sum()
            (gradients,) = torch.autograd.grad(chosen, parts["code"])
        return (gradients * parts["code"]).detach()

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) >= 0 of `targets` (N,), from one forward and one backward pass."""
        return self.contributions(images, targets).sum(1, keepdim=True).clamp(min=0)


def _stage(before: int, after: int, options: BcosOptions) -> nn.Module:
    first = [BcosConv2d(before, after, 3, 2, options.b), UncentredNorm(after)]
    return nn.Sequential(*first, *(Block(after, options.b) for _ in range(options.depth - 1)))


def _statistics(backbone: nn.Module, info: BackboneInfo) -> Statistics:
    found = preprocessing(backbone)
    if len(found.mean) != info.in_channels:
        raise ContractError(
            f"bcos must know what normalises its images of {info.in_channels} channels: give build(..., statistics=...)"
        )
    return found.mean, found.std


def _matching(
    backbone: nn.Module, beside: BackboneInfo, options: BcosOptions, of_width: Callable[[float], BcosNet]
) -> float:
    """The width whose network is nearest to the backbone, by ratio."""

    def cost(network: nn.Module, device: torch.device | str) -> int:
        if options.match == "parameters":
            return sum(parameter.numel() for parameter in network.parameters())
        return _flops(network, torch.zeros(1, beside.in_channels, *beside.size, device=device))

    def of(units: int) -> int:
        with torch.device("meta"):
            return cost(of_width(units / FINENESS), "meta")

    wanted = cost(backbone, next(backbone.parameters()).device)
    low, high = 1, MOST_WIDTH * FINENESS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if of(middle) <= wanted else (low, middle)
    return min((low, high), key=lambda units: abs(math.log(of(units) / wanted))) / FINENESS


def _flops(network: nn.Module, images: Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with evaluating(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops()

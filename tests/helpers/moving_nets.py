"""Networks that stride, pool, resize, crop and pad at random, and images with one bright place."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

CHANNELS = 2


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Sum(nn.Module):
    """Two branches that are added, the first of which keeps what it can."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.second(x)


def average(conv: nn.Conv2d) -> nn.Conv2d:
    """Let a convolution average its window, so that evidence stays where the image is bright."""
    nn.init.constant_(conv.weight, 1 / conv.weight[0].numel())
    return conv


def strided(draw: random.Random) -> nn.Module:
    stride = draw.choice([(2, 2), (2, 1), (1, 2)])
    kernel = draw.choice([2, 3, 5])
    padding = draw.choice([0, kernel // 2])
    return average(nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, bias=False))


def pooled(draw: random.Random) -> nn.Module:
    return draw.choice(
        [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AvgPool2d((1, 2)), nn.AvgPool2d(3, 2, 1)]
    )


def adaptive(draw: random.Random) -> nn.Module:
    return nn.AdaptiveAvgPool2d((draw.choice([12, 16, 20]), draw.choice([12, 16, 20])))


def resized(draw: random.Random) -> nn.Module:
    side = draw.choice([24, 32, 40]), draw.choice([24, 32, 40])
    return draw.choice([
        Apply(lambda x: F.interpolate(x, side, mode="bilinear", antialias=True)),
        Apply(lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear")),
        Apply(lambda x: F.interpolate(x, (x.shape[-2] // 2, x.shape[-1] // 2), mode="nearest")),
        nn.Upsample(side, mode="bilinear", align_corners=True),
    ])  # fmt: skip


def cropped(draw: random.Random) -> nn.Module:
    top, left = draw.choice([0, 2, 3]), draw.choice([0, 2, 3])
    return draw.choice([
        Apply(lambda x: x[..., top:, left:-1]),
        Apply(lambda x: x[..., x.shape[-2] // 12 :, : -(x.shape[-1] // 12) or None]),
        Apply(lambda x: F.pad(x, (left, 0, top, 1))),
        Apply(lambda x: F.pad(x, (3, 1, 2, 2), mode="reflect")),
    ])  # fmt: skip


def joined(draw: random.Random) -> nn.Module:
    same = average(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False))
    pair = average(nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1, bias=False)), nn.AvgPool2d(2, ceil_mode=True)
    return draw.choice(
        [Sum(nn.Identity(), same), Sum(*pair), average(Conv2dSame(CHANNELS, CHANNELS, 3, 2, bias=False))]
    )


class MovingNet(nn.Module):
    """Network whose evidence for class 0 lies where the image is bright, whatever its layers do."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        makers = [strided, *draw.sample([strided, pooled, adaptive, resized, cropped, cropped, joined], 3)]
        draw.shuffle(makers)
        stem = average(nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False))
        self.features = nn.Sequential(stem, nn.ReLU(), *(make(draw) for make in makers), nn.ReLU())
        self.fc = nn.Linear(CHANNELS, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0] * CHANNELS, [-1.0] * CHANNELS]))
            self.fc.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).mean((2, 3)))


def bright_place(net: MovingNet, seed: int) -> tuple[Tensor, Tensor]:
    """Return an image (1, 1, H, W) that is not square, and the mask (H, W) of its one bright place.

    The place is as large as a few cells of the last map and highest in the middle.
    """
    draw = random.Random(1000 + seed)
    height, width = draw.choice([(96, 160), (150, 97), (128, 128), (181, 120)])
    with torch.no_grad():
        cells = net.features(torch.zeros(1, 1, height, width)).shape[-2:]
    centre = [draw.uniform(0.3, 0.7) * side for side in (height, width)]
    radii = [1.5 * max(2.0, side / count) for side, count in zip((height, width), cells, strict=True)]
    rows, columns = (
        (torch.arange(side) - middle).abs() / radius
        for side, middle, radius in zip((height, width), centre, radii, strict=True)
    )
    distance = torch.maximum(rows[:, None], columns[None, :])
    return (1 - distance).clamp(min=0)[None, None], distance <= 1

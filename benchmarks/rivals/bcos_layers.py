"""Layers of a B-cos network: linear in their input up to factors that an explanation holds constant.

    B-cos convolution:  y = |cos(x, w)|^(B-1)  w^ . x      w^ = w / |w|, cos over the window
    uncentred norm:     y = g x / sqrt(mean(x^2) + eps)    no mean is subtracted, no bias

Source: Böhle, Fritz and Schiele, CVPR 2022 and TPAMI 2024; the norm divides by the root mean square.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TINY = 1e-6
_constant: ContextVar[bool] = ContextVar("constant", default=False)


@contextmanager
def constant_factors() -> Iterator[None]:
    """Hold the factors constant in backward passes.

    A gradient is then the linear map itself.
    """
    token = _constant.set(True)
    try:
        yield
    finally:
        _constant.reset(token)


def _factor(values: Tensor) -> Tensor:
    return values.detach() if _constant.get() else values


class BcosConv2d(nn.Conv2d):
    """Convolution without bias, weighted by the alignment of window and weights.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the window, odd; the input is padded by half of it.
        stride: stride of the windows.
        b: exponent B >= 1; 1 is a convolution with unit weights.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, b: float = 2.0) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.b = b

    def forward(self, features: Tensor) -> Tensor:
        """Convolve features (N, C, h, w) to (N, C', h', w')."""
        weight = self.weight / self.weight.flatten(1).norm(dim=1).clamp(min=TINY)[:, None, None, None]
        linear = F.conv2d(features, weight, None, self.stride, self.padding)
        if self.b == 1:
            return linear
        cosine = (linear / window_norm(features, self)).abs()
        return linear * _factor(cosine if self.b == 2 else (cosine + TINY).pow(self.b - 1))


def window_norm(features: Tensor, layer: nn.Conv2d) -> Tensor:
    """Compute the length (N, 1, h', w') of `features` in each window of `layer`."""
    squares = features.square().sum(1, keepdim=True)
    means = F.avg_pool2d(squares, layer.kernel_size, layer.stride, layer.padding)  # type: ignore[arg-type]
    return (means * (layer.kernel_size[0] * layer.kernel_size[1]) + TINY).sqrt()


class UncentredNorm(nn.Module):
    """Batch norm without mean and bias.

    Args:
        channels: number of channels C.
        momentum: momentum of the running mean square, which evaluation mode uses.
    """

    mean_square: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("mean_square", torch.ones(channels))

    def reset_parameters(self) -> None:
        """Set scales and running mean squares to 1."""
        nn.init.ones_(self.weight)
        self.mean_square.fill_(1)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (N, C, h, w)."""
        squares = self.mean_square
        if self.training:
            squares = features.square().mean((0, 2, 3))
            with torch.no_grad():
                self.mean_square.lerp_(squares.to(self.mean_square.dtype), self.momentum)
        scale = self.weight * _factor((squares + TINY).rsqrt())
        return features * scale[:, None, None].to(features.dtype)

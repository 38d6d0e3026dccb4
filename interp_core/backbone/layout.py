"""Layouts of features, and their conversion to a map (N, C, h, w) and back.

Convolutions return (N, C, h, w), some networks (N, h, w, C), and hybrids rows of tokens (N, p + h w, C), the first p of
which belong to no position. LAP works on the map only; prefix tokens stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_PREFIX = 5  # a class token, a distillation token, some registers


@dataclass(frozen=True)
class Layout:
    """Order of channels and positions.

    Attributes:
        order: "NCHW", "NHWC" or "NLC".
        prefix: tokens before those of the grid, in "NLC" only.
    """

    order: str = "NCHW"
    prefix: int = 0

    def to_map(self, features: Tensor, aspect: float = 1.0) -> Tensor:
        """Return the map (N, C, h, w), a view where possible.

        Args:
            features: in this layout.
            aspect: height / width of the image, which rows of tokens do not tell.
        """
        if self.order == "NCHW":
            return features
        if self.order == "NHWC":
            return features.permute(0, 3, 1, 2)
        tokens = features[:, self.prefix :].transpose(1, 2)
        return tokens.reshape(*tokens.shape[:2], *grid_of(tokens.shape[2], aspect))

    def from_map(self, maps: Tensor, features: Tensor) -> Tensor:
        """Return a map in this layout, with the prefix tokens of `features`."""
        if self.order == "NCHW":
            return maps
        if self.order == "NHWC":
            return maps.permute(0, 2, 3, 1)
        tokens = maps.flatten(2).transpose(1, 2)
        return torch.cat([features[:, : self.prefix], tokens], 1) if self.prefix else tokens

    def apply(self, change: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
        """Apply `change` to the map and keep the prefix tokens."""
        return self.from_map(change(self.to_map(features)), features)


def grid_of(tokens: int, aspect: float = 1.0) -> tuple[int, int]:
    """Return rows and columns of a grid of tokens.

    rows / columns is as near to `aspect` as they divide.

    >>> grid_of(49), grid_of(12, 3 / 4)
    ((7, 7), (3, 4))
    """
    ideal = round((tokens * aspect) ** 0.5)
    rows = min((n for n in range(1, tokens + 1) if tokens % n == 0), key=lambda n: abs(n - ideal))
    return rows, tokens // rows


def layout_of(features: object, grid: tuple[int, int] | None = None, channels: int | None = None) -> Layout | None:
    """Return the layout of a module's output for a square image.

    None if the output is no map.

    Args:
        features: output of the module.
        grid: expected rows and columns, needed for rows of tokens.
        channels: expected number of channels, which decides where two layouts are possible.
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        return None
    shape = features.shape
    if features.ndim == 4:
        return _layout_of_grid(tuple(shape), channels)
    if features.ndim == 3 and grid is not None:
        prefix = shape[1] - grid[0] * grid[1]
        if 0 <= prefix <= MAX_PREFIX and (channels is None or shape[2] == channels):
            return Layout("NLC", prefix)
    return None


def _layout_of_grid(shape: tuple[int, ...], channels: int | None) -> Layout | None:
    is_square_nchw, is_square_nhwc = shape[2] == shape[3], shape[1] == shape[2]
    if channels is not None and shape[1] != shape[3] and channels in (shape[1], shape[3]):
        return Layout("NCHW" if shape[1] == channels else "NHWC")
    if is_square_nhwc and not is_square_nchw:
        return Layout("NHWC")
    return Layout("NCHW")

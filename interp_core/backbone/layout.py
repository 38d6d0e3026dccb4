"""How a network lays out the features it hands on, and the map (N, C, h, w) that is seen through any of them.

Convolutions hand on (N, C, h, w), some networks (N, h, w, C), hybrids rows of tokens (N, p + h w, C) behind p tokens
that belong to no place. LAP works on the map alone; prefix tokens pass untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_PREFIX = 5  # a class token, a distillation token, some registers


@dataclass(frozen=True)
class Layout:
    """Where channels and positions lie.

    Attributes:
        order: "NCHW", "NHWC" or "NLC".
        prefix: tokens before those of the grid, in "NLC" only.
    """

    order: str = "NCHW"
    prefix: int = 0

    def to_map(self, features: Tensor, aspect: float = 1.0) -> Tensor:
        """The map (N, C, h, w), a view where possible.

        Args:
            features: as the network lays them out.
            aspect: height / width of the image, which rows of tokens do not tell.
        """
        if self.order == "NCHW":
            return features
        if self.order == "NHWC":
            return features.permute(0, 3, 1, 2)
        tokens = features[:, self.prefix :].transpose(1, 2)
        return tokens.unflatten(2, grid_of(tokens.shape[2], aspect))

    def from_map(self, maps: Tensor, features: Tensor) -> Tensor:
        """A changed map back in the network's layout; `features` gives what is not on the map."""
        if self.order == "NCHW":
            return maps
        if self.order == "NHWC":
            return maps.permute(0, 2, 3, 1)
        tokens = maps.flatten(2).transpose(1, 2)
        return torch.cat([features[:, : self.prefix], tokens], 1) if self.prefix else tokens

    def apply(self, change: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
        """`change` on the map, the rest as it is."""
        return self.from_map(change(self.to_map(features)), features)


def grid_of(tokens: int, aspect: float = 1.0) -> tuple[int, int]:
    """Rows and columns of a grid of so many tokens, rows / columns as near to `aspect` as they divide.

    >>> grid_of(49), grid_of(12, 3 / 4)
    ((7, 7), (3, 4))
    """
    wanted = round((tokens * aspect) ** 0.5)
    rows = min((n for n in range(1, tokens + 1) if tokens % n == 0), key=lambda n: abs(n - wanted))
    return rows, tokens // rows


def layout_of(features: object, grid: tuple[int, int] | None = None, channels: int | None = None) -> Layout | None:
    """The layout of what a network hands on for a square image; None where it is no map.

    Args:
        features: what a module put out.
        grid: rows and columns to expect, wanted for rows of tokens.
        channels: to expect, which settles what could be read two ways.
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        return None
    shape = features.shape
    if features.ndim == 4:
        return _layout_of_grid(tuple(shape), channels)
    if features.ndim == 3 and grid is not None:
        prefix = shape[1] - grid[0] * grid[1]
        if 0 <= prefix <= MOST_PREFIX and (channels is None or shape[2] == channels):
            return Layout("NLC", prefix)
    return None


def _layout_of_grid(shape: tuple[int, ...], channels: int | None) -> Layout | None:
    first, last = shape[2] == shape[3], shape[1] == shape[2]
    if channels is not None and shape[1] != shape[3] and channels in (shape[1], shape[3]):
        return Layout("NCHW" if shape[1] == channels else "NHWC")
    if last and not first:
        return Layout("NHWC")
    return Layout("NCHW")

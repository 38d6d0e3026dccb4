"""Positions of a feature map's cells on the image, and maps resized accordingly.

A cell belongs to the centre of its receptive field. Rows and columns have their own pitch and offset, since strides may
differ by axis and images need not be square. `interp_core.backbone.positions` finds both from the operations of a
network. Resizing as if cells tiled the image would shift a ResNet's map by half a stride, 16 pixels of 224.

Limit: it is not known which part of its receptive field a cell has learned to use.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import sqrt
from typing import Self

import torch
from torch import Tensor

from interp_core.backbone.constants import constant

SHIFT = 0.25  # share of the receptive fields' shift that maps are shown with


@dataclass(frozen=True)
class CellGrid:
    """Position of a map's cells on the image, in pixels.

    The cell in row i and column j is centred at (first[0] + pitch[0] i, first[1] + pitch[1] j). 0 is the middle of the
    first pixel.

    Attributes:
        first: row and column of the first cell's centre.
        pitch: distance of neighbouring cells, down and across.
    """

    first: tuple[float, float] = (0.0, 0.0)
    pitch: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def square(cls, first: float, pitch: float) -> Self:
        """Return a grid that is the same along both axes."""
        return cls((float(first), float(first)), (float(pitch), float(pitch)))

    @classmethod
    def tiling(cls, pitch: tuple[float, float]) -> Self:
        """Return the grid of cells that tile the image from its upper left corner."""
        rows, columns = pitch
        return cls(((rows - 1) / 2, (columns - 1) / 2), (float(rows), float(columns)))

    def shown(self) -> Self:
        """Return the grid on which maps are shown, a quarter of the way from cells that tile the image to this one.

        Centres of receptive fields overstate the shift of networks with one-sided padding: cells at the border see
        only inside the image, and a trained network uses the inner part of its receptive fields. Where the network
        crops or pads by more than a cell, its axis stays as it is. The quarter was chosen on validation images
        (results/method/log.md).
        """
        tiled = [(pitch - 1) / 2 for pitch in self.pitch]
        rows, columns = (
            tile + SHIFT * (first - tile) if abs(first - tile) <= pitch else first
            for first, tile, pitch in zip(self.first, tiled, self.pitch, strict=True)
        )
        return type(self)((rows, columns), self.pitch)

    @property
    def reduction(self) -> int:
        """Input pixels per position along an axis, the geometric mean of both, at least 1."""
        rows, columns = self.pitch
        return max(1, round(sqrt(rows * columns)))


def resize(maps: Tensor, height: int, width: int, grid: CellGrid) -> Tensor:
    """Resize maps to input resolution.

    From (N, 1, h, w) to (N, 1, height, width).

    Values are linear between the centres of cells and constant outside.

    Args:
        maps: values of cells.
        height: rows of the image.
        width: columns of the image.
        grid: position of the cells.
    """
    rows, columns = (
        _weights(cells, pixels, first, pitch).to(maps)
        for cells, pixels, first, pitch in zip(maps.shape[-2:], (height, width), grid.first, grid.pitch, strict=True)
    )
    with full_precision(maps.device):
        return rows @ maps @ columns.t()


def collect(images: Tensor, rows: int, columns: int, grid: CellGrid) -> Tensor:
    """Sum images over cells by the transpose of `resize`.

    From (N, 1, H, W) to (N, 1, rows, columns).

    The sum stays the same, and sum over cells of maps * collect(images) = sum over pixels of resize(maps) * images,
    at a fraction of the work.

    Args:
        images: values at pixels.
        rows: rows of cells.
        columns: columns of cells.
        grid: position of the cells.
    """
    down, across = (
        _weights(cells, pixels, first, pitch).to(images)
        for cells, pixels, first, pitch in zip((rows, columns), images.shape[-2:], grid.first, grid.pitch, strict=True)
    )
    with full_precision(images.device):
        return down.t() @ images @ across


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context that disables autocast.

    Matrix products of maps then keep their type and digits.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


@constant
def _weights(cells: int, pixels: int, first: float, pitch: float) -> Tensor:
    """Return the (pixels, cells) matrix of linear interpolation.

    Two products with small matrices take a tenth of the time of `interpolate`.
    """
    position = ((torch.arange(pixels, dtype=torch.float64) - first) / pitch).clamp(0, cells - 1)
    return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0).float()

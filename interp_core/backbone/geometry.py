"""Positions of a feature map's cells on the image, and maps resized accordingly.

A cell belongs to the centre of its receptive field. Every operation that loses resolution shifts it. With kernel k,
dilation d and padding p before the first position, the first output lies at input position (k - 1) d / 2 - p. Kernels
that tile (2x2 pooling, patches) keep cells in the middle of their stride, but strided 3x3 convolutions with padding 1
put the first cell on pixel 0. Resizing as if cells tiled the image would then shift a ResNet's map by half a stride, 16
pixels of 224.

Limits: asymmetric operations that keep the resolution are ignored. It is not known which part of its receptive field a
cell has learned to use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from math import prod
from statistics import fmean

import torch
from torch import Tensor, nn

from interp_core.backbone.constants import constant

# For the side of a map: the modules that shrink such a map, each with the side of its output.
Shrinkers = Callable[[int], list[tuple[nn.Module, int]]]


def first_centre(size: int, last: int, shrinkers: Shrinkers) -> float:
    """Return the pixel coordinate of the first cell's centre.

    0 is the middle of the first pixel.

    Args:
        size: side of the image in pixels.
        last: side of the feature map.
        shrinkers: the modules between them. Where branches shrink a map together the mean of their shifts is used.
            Where none is known, cells are assumed to tile the map.
    """
    first, pitch = 0.0, 1
    for offset, stride in _steps(size, last, shrinkers):
        first, pitch = first + pitch * offset, pitch * stride
    return first


def pitch_of(size: int, last: int, shrinkers: Shrinkers) -> int:
    """Return the number of pixels from cell to cell.

    It is the product of the strides.

    It differs from size / last where sides do not divide.

    Args:
        size: side of the image in pixels.
        last: side of the feature map.
        shrinkers: the modules between them.
    """
    return prod(stride for _, stride in _steps(size, last, shrinkers))


def _steps(size: int, last: int, shrinkers: Shrinkers) -> Iterator[tuple[float, int]]:
    """Yield shift and stride of each loss of resolution."""
    side = size
    while side > last:
        candidates = [(module, after) for module, after in shrinkers(side) if after >= last]
        after = max((after for _, after in candidates), default=last)
        modules = [module for module, smaller in candidates if smaller == after]
        shifts, strides = [shift(m, side, after) for m in modules], {_stride(m, side, after) for m in modules}
        stride = strides.pop() if len(strides) == 1 else round(side / after)
        yield fmean(shifts) if shifts else (stride - 1) / 2, stride
        side = after


def shift(module: nn.Module, before: int, after: int) -> float:
    """Return the input position of a module's first output.

    It follows from kernel, dilation and padding.

    A module without a kernel is assumed to tile its input.

    Args:
        module: a convolution, pooling or other module that shrinks a map.
        before: side of its input.
        after: side of its output.
    """
    stride = _stride(module, before, after)
    kernel, dilation = _last(module, "kernel_size"), _last(module, "dilation") or 1
    if kernel is None:
        return (stride - 1) / 2
    extent = (kernel - 1) * dilation
    padding = _last(module, "padding") or 0
    if (before + 2 * padding - extent - 1) // stride + 1 < after:  # "SAME" padding, the odd pixel at the end
        padding = max((after - 1) * stride + extent + 1 - before, 0) // 2
    return extent / 2 - padding


def _stride(module: nn.Module, before: int, after: int) -> int:
    return _last(module, "stride") or round(before / after)


def _last(module: nn.Module, name: str) -> int | None:
    value = getattr(module, name, None)
    value = value[-1] if isinstance(value, tuple | list) and value else value
    return value if isinstance(value, int) else None


def resize(maps: Tensor, height: int, width: int, first: float, pitch: float) -> Tensor:
    """Resize maps to input resolution.

    From (N, 1, h, w) to (N, 1, height, width).

    Values are linear between the centres of cells and constant outside.

    Args:
        maps: cells centred at pixels first + pitch * i along both axes.
        height: rows of the image.
        width: columns of the image.
        first: centre of the first cell, in pixels.
        pitch: distance of neighbouring cells, in pixels.
    """
    rows, columns = (
        _weights(cells, pixels, first, pitch).to(maps)
        for cells, pixels in zip(maps.shape[-2:], (height, width), strict=True)
    )
    with full_precision(maps.device):
        return rows @ maps @ columns.t()


def collect(images: Tensor, rows: int, columns: int, first: float, pitch: float) -> Tensor:
    """Sum images over cells by the transpose of `resize`.

    From (N, 1, H, W) to (N, 1, rows, columns).

    The sum stays the same, and sum over cells of maps * collect(images) = sum over pixels of resize(maps) * images,
    at a fraction of the work.

    Args:
        images: values at pixels.
        rows: rows of cells.
        columns: columns of cells.
        first: centre of the first cell, in pixels.
        pitch: distance of neighbouring cells, in pixels.
    """
    down, across = (
        _weights(cells, pixels, first, pitch).to(images)
        for cells, pixels in zip((rows, columns), images.shape[-2:], strict=True)
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

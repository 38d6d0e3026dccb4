"""What faithfulness metrics remove, in which order, and what they put in its place. Pure functions.

Removed pixels become 0, the mean of the data set in normalised units, or a blur of the image. "Black" would favour maps
that avoid dark regions. Known limit: either is out of distribution; compare scores of both.
"""

from __future__ import annotations

from math import gcd, log, prod

import numpy as np
from scipy.ndimage import gaussian_filter

from interp_core.errors import ContractError

FILLS = ("mean", "blur")
# Of the shorter side: at 224 px wider than what RISE uses (5), which leaves objects recognisable.
BLUR = 1 / 16


def fill_values(images: np.ndarray, name: str) -> np.ndarray:
    """What pixels of images (N, C, H, W) are replaced by, same shape: "mean" is 0, "blur" a Gaussian of side / 16."""
    if name == "mean":
        return np.zeros_like(images)
    sigma = BLUR * min(images.shape[-2:])
    return gaussian_filter(images, (0, 0, sigma, sigma), mode="nearest").astype(np.float32)


def nearest_divisor(number: int, wanted: float) -> int | None:
    """Divisor of `number` nearest to `wanted` in ratio, the smaller of two alike; None if all are off by over 2."""
    divisors = [d for d in range(1, number + 1) if number % d == 0 and 0.5 <= d / wanted <= 2]
    return min(divisors, key=lambda d: abs(log(d / wanted)), default=None)


def features_in_step(shape: tuple[int, ...], steps: int) -> int:
    """How many of the C*H*W features go at once, for about `steps` steps.

    Args:
        shape: (C, H, W) of an image.
        steps: wanted number of steps.

    Raises:
        ContractError: no divisor of H*W lies within a factor 2 of it, as Quantus needs.
    """
    chosen = nearest_divisor(prod(shape[1:]), prod(shape) / steps)
    if chosen is None:
        raise ContractError(
            f"cannot take {shape[1]} x {shape[2]} pixels away in about {steps} equal steps: "
            "resize images to a multiple of 8 or change steps"
        )
    return chosen


def patch_side(shape: tuple[int, ...], patches_per_side: int) -> int:
    """Side in pixels of the square regions that fill an image (C, H, W), about `patches_per_side` on its shorter side.

    Whole regions only: a region cut by the border would rank low for its size and not for what it says.

    Raises:
        ContractError: no common divisor of H and W lies within a factor 2 of it.
    """
    height, width = shape[1:]
    chosen = nearest_divisor(gcd(height, width), min(height, width) / patches_per_side)
    if chosen is None:
        raise ContractError(
            f"cannot cut {height} x {width} pixels into about {patches_per_side} equal regions "
            "a side: resize images to a multiple of 8 or change patches_per_side"
        )
    return chosen


def pixel_order(maps: np.ndarray, *, least_first: bool = False) -> np.ndarray:
    """Place of each pixel in the order of removal, 0 first, (N, 1, H, W) int32, from maps without ties."""
    flat = maps.reshape(len(maps), -1)
    return _places(np.argsort(flat if least_first else -flat, axis=1)).reshape(maps.shape)


def patch_labels(height: int, width: int, side: int) -> np.ndarray:
    """Number of the square region each pixel lies in, row by row, (1, 1, H, W) int32."""
    rows, columns = np.arange(height) // side, np.arange(width) // side
    return (rows[:, None] * (width // side) + columns)[None, None].astype(np.int32)


def patch_sums(maps: np.ndarray, side: int) -> np.ndarray:
    """Sum of maps (N, 1, H, W) over each square region, (N, regions)."""
    n, _, height, width = maps.shape
    return maps.reshape(n, height // side, side, width // side, side).sum((2, 4)).reshape(n, -1)


def group_order(sums: np.ndarray, labels: np.ndarray, *, least_first: bool = False) -> np.ndarray:
    """Place of each pixel where groups go one after the other by their sums.

    Args:
        sums: (N, groups).
        labels: (N or 1, 1, H, W), group of each pixel.
        least_first: whether the smallest sum goes first.

    Returns:
        (N, 1, H, W) int32, the same for all pixels of a group.
    """
    places = _places(np.argsort(sums if least_first else -sums, axis=1, kind="stable"))
    spread = np.broadcast_to(labels, (len(sums), *labels.shape[1:])).reshape(len(sums), -1)
    return np.take_along_axis(places, spread, axis=1).reshape(len(sums), *labels.shape[1:])


def _places(order: np.ndarray) -> np.ndarray:
    """Inverse permutation of each row, int32."""
    places = np.empty(order.shape, np.int32)
    np.put_along_axis(places, order, np.arange(order.shape[1], dtype=np.int32)[None], axis=1)
    return places


def area_under(curves: np.ndarray) -> np.ndarray:
    """Area (N,) under curves (N, steps + 1) by the trapezoid rule, divided by the number of steps."""
    return ((curves[:, 1:] + curves[:, :-1]) / 2).mean(1)


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation (N,) of each row of `a` with that of `b`, both (N, T); NaN where a row is constant."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))

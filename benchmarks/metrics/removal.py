"""Building blocks of removal metrics: fills, orders, patches and areas. Pure functions on arrays.

    fill_values      values of removed pixels
    pixel_order      order of pixels by the map
    patch_*          square patches: their side, a label for each pixel, and sums of the map
    group_order      order of groups of pixels, such as patches or superpixels
    area_under       from curves to scores
    pearson          correlation of two sets of rows

Removed pixels become 0, the mean of the data set in normalised units, or a blur of the image. Black would favour maps
that avoid dark areas.

Known limit: images with removed pixels are out of distribution under either fill; compare the scores of both.
"""

from __future__ import annotations

from math import gcd, log, prod

import numpy as np
from scipy.ndimage import gaussian_filter

from interp_core.errors import ContractError

FILLS = ("mean", "blur")
# As a share of the shorter side. At 224 px this is wider than RISE's 5 px, under which objects stay recognisable.
BLUR = 1 / 16


def fill_values(images: np.ndarray, name: str) -> np.ndarray:
    """Return the values of removed pixels of images (N, C, H, W), same shape.

    Args:
        images: (N, C, H, W), normalised.
        name: "mean" for 0, "blur" for a Gaussian blur with a standard deviation of a sixteenth of the shorter side.
    """
    if name == "mean":
        return np.zeros_like(images)
    sigma = BLUR * min(images.shape[-2:])
    return gaussian_filter(images, (0, 0, sigma, sigma), mode="nearest").astype(np.float32)


def nearest_divisor(number: int, target: float) -> int | None:
    """Return the divisor of `number` nearest to `target` by ratio.

    Of two alike it returns the smaller one, and None if all divisors are off by more than a factor of 2.
    """
    divisors = [d for d in range(1, number + 1) if number % d == 0 and 0.5 <= d / target <= 2]
    return min(divisors, key=lambda d: abs(log(d / target)), default=None)


def features_in_step(shape: tuple[int, ...], steps: int) -> int:
    """Choose the number of features to remove in a step.

    All of the C*H*W features are removed in about `steps` equal steps.

    Args:
        shape: (C, H, W) of an image.
        steps: number of steps.

    Raises:
        ContractError: no divisor of H*W is within a factor of 2, and Quantus needs equal steps.
    """
    features = nearest_divisor(prod(shape[1:]), prod(shape) / steps)
    if features is None:
        raise ContractError(
            f"cannot take {shape[1]} x {shape[2]} pixels away in about {steps} equal steps: "
            "resize images to a multiple of 8 or change steps"
        )
    return features


def patch_side(shape: tuple[int, ...], patches_per_side: int) -> int:
    """Choose the side in pixels of square patches that tile an image.

    Patches are whole: one cut by the border would rank low for its size alone.

    Args:
        shape: (C, H, W) of an image.
        patches_per_side: approximate number of patches along the shorter side.

    Raises:
        ContractError: no common divisor of H and W is within a factor of 2.
    """
    height, width = shape[1:]
    side = nearest_divisor(gcd(height, width), min(height, width) / patches_per_side)
    if side is None:
        raise ContractError(
            f"cannot cut {height} x {width} pixels into about {patches_per_side} equal patches "
            "a side: resize images to a multiple of 8 or change patches_per_side"
        )
    return side


def pixel_order(maps: np.ndarray, *, least_first: bool = False) -> np.ndarray:
    """Return the position of each pixel in the order of removal.

    Args:
        maps: (N, 1, H, W), without ties.
        least_first: whether the lowest pixel is removed first, else the highest.

    Returns:
        (N, 1, H, W) int32; 0 is removed first.
    """
    flat = maps.reshape(len(maps), -1)
    return _inverse(np.argsort(flat if least_first else -flat, axis=1)).reshape(maps.shape)


def patch_labels(height: int, width: int, side: int) -> np.ndarray:
    """Number the patch of each pixel, row by row, (1, 1, H, W)."""
    rows, columns = np.arange(height) // side, np.arange(width) // side
    return (rows[:, None] * (width // side) + columns)[None, None].astype(np.int32)


def patch_sums(maps: np.ndarray, side: int) -> np.ndarray:
    """Sum maps (N, 1, H, W) over each square patch, (N, patches)."""
    n, _, height, width = maps.shape
    return maps.reshape(n, height // side, side, width // side, side).sum((2, 4)).reshape(n, -1)


def group_order(sums: np.ndarray, labels: np.ndarray, *, least_first: bool = False) -> np.ndarray:
    """Return the position of each pixel in the order of removal, group by group.

    Args:
        sums: (N, groups), a score of each group.
        labels: (N or 1, 1, H, W), group of each pixel.
        least_first: whether the group of the lowest score is removed first.

    Returns:
        (N, 1, H, W) int32, the same for all pixels of a group.
    """
    positions = _inverse(np.argsort(sums if least_first else -sums, axis=1, kind="stable"))
    groups = np.broadcast_to(labels, (len(sums), *labels.shape[1:])).reshape(len(sums), -1)
    return np.take_along_axis(positions, groups, axis=1).reshape(len(sums), *labels.shape[1:])


def _inverse(order: np.ndarray) -> np.ndarray:
    """Invert the permutation in each row, int32."""
    positions = np.empty(order.shape, np.int32)
    np.put_along_axis(positions, order, np.arange(order.shape[1], dtype=np.int32)[None], axis=1)
    return positions


def area_under(curves: np.ndarray) -> np.ndarray:
    """Compute the area (N,) under curves (N, steps + 1).

    It is the area by the trapezoid rule over the number of steps.
    """
    return ((curves[:, 1:] + curves[:, :-1]) / 2).mean(1)


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate each row of `a` with that of `b`.

    Both are (N, T). The result is (N,), NaN for a constant row.
    """
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))

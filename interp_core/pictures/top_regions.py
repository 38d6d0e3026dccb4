"""Top regions of a map as boxes: where to look first, in numbers.

Per image the highest pixels are taken until they hold a share of the map's mass; what touches, diagonally too, is one
region. Pixels that tie with the last one needed are all taken, so that nothing depends on the order of pixels: the
regions then hold more than the share, and a constant positive map is one region, the whole image.

Limits: a box is the hull of its region and may hold other pixels; `mass` counts the region's own. Maps upsampled from a
coarse grid have regions no finer than that grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp_core.errors import ContractError


@dataclass(frozen=True)
class Region:
    """A connected region of high values.

    Attributes:
        top: first row of the box, in pixels.
        left: first column.
        bottom: row after the last, so that `map[top:bottom, left:right]` is the box.
        right: column after the last.
        mass: share of the map's sum inside the region (not the box), in (0, 1].
        peak: highest value.
        peak_at: (row, column) of it, the first in reading order among equals.
    """

    top: int
    left: int
    bottom: int
    right: int
    mass: float
    peak: float
    peak_at: tuple[int, int]


def top_regions(maps: Tensor, *, share: float = 0.5, most: int = 5) -> list[list[Region]]:
    """Regions of the highest pixels that together hold `share` of each map, largest mass first.

    Args:
        maps: (N, 1, H, W), >= 0 and finite.
        share: of each map's sum, in (0, 1].
        most: regions kept per map, >= 1.

    Returns:
        One list per map; empty where the map is zero everywhere.

    Raises:
        ContractError: maps of another shape, negative, NaN or infinite values, or a share or number out of range.
    """
    _check(maps, share, most)
    values = maps.detach()[:, 0].cpu().double().numpy()
    found: list[list[Region]] = [[] for _ in values]
    if values.size:
        # By a power of two, which rounds nothing: sums of very large or small values would leave the floating range.
        scaled = np.ldexp(values, -np.frexp(values.max((1, 2), keepdims=True))[1])
        _collect(found, values, scaled, top_pixels(scaled, share), most)
    return found


def top_pixels(values: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """The highest pixels of maps (N, H, W) >= 0 that hold `share` of each, with all that tie with the last one."""
    order = -np.sort(-values.reshape(len(values), -1), axis=1)
    running = order.cumsum(1)
    last = (running >= share * running[:, -1:]).argmax(1)
    threshold = np.take_along_axis(order, last[:, None], 1)[:, :, None]
    return (values >= threshold) & (values > 0)


def _collect(
    found: list[list[Region]], values: NDArray[np.float64], scaled: NDArray[np.float64], kept: NDArray, most: int
) -> None:
    """Label all maps at once, neighbours within a map only, and put each map's largest regions in its list."""
    from scipy import ndimage

    within = np.zeros((3, 3, 3), dtype=int)
    within[1] = 1
    labels, count = ndimage.label(kept, structure=within)
    boxes, names = ndimage.find_objects(labels), np.arange(1, count + 1)
    masses = ndimage.sum_labels(scaled, labels, names)
    totals = scaled.sum((1, 2))
    # A stable sort: regions of equal mass stay in reading order.
    for place in np.argsort(-np.asarray(masses), kind="stable"):
        image, rows, columns = boxes[place]
        regions = found[image.start]
        if len(regions) < most:
            mass = float(min(masses[place] / totals[image.start], 1.0))
            own = np.where(labels[boxes[place]][0] == place + 1, values[boxes[place]][0], -1.0)
            row, column = np.unravel_index(own.argmax(), own.shape)
            peak_at = int(rows.start + row), int(columns.start + column)
            box = rows.start, columns.start, rows.stop, columns.stop
            regions.append(Region(*box, mass, float(own.max()), peak_at))


def _check(maps: Tensor, share: float, most: int) -> None:
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[1] != 1:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ContractError(f"top_regions takes maps (N, 1, H, W), got {got}")
    if not 0 < share <= 1:
        raise ContractError(f"share must lie in (0, 1], got {share}")
    if most < 1:
        raise ContractError(f"most must be at least 1, got {most}")
    broken = ~torch.isfinite(maps).flatten(1).all(1)
    if bool(broken.any()):
        raise ContractError(f"map {int(broken.int().argmax())} holds NaN or infinite values: it has no top regions")
    negative = (maps < 0).flatten(1).any(1)
    if bool(negative.any()):
        raise ContractError(f"map {int(negative.int().argmax())} holds negative values: pass maps.clamp(min=0)")

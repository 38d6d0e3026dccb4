"""Find the top regions of a map, as boxes.

The highest pixels of an image that together hold a share of the map's sum are split into connected regions; pixels that
touch diagonally are connected. All pixels that tie with the last one are included, so that nothing depends on the order
of pixels. The regions may then hold more than the share, and a constant positive map is one region.

Limits: a box is the hull of its region and may contain other pixels, which `mass` does not count. Maps upsampled from a
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
class TopRegion:
    """A connected region of the highest values of a map.

    Attributes:
        top: first row of the box, in pixels.
        left: first column.
        bottom: row after the last, so that `map[top:bottom, left:right]` is the box.
        right: column after the last.
        mass: share of the map's sum inside the region (not the box), in (0, 1].
        peak: highest value.
        peak_at: (row, column) of the peak, the first in reading order among equals.
    """

    top: int
    left: int
    bottom: int
    right: int
    mass: float
    peak: float
    peak_at: tuple[int, int]


def top_regions(maps: Tensor, *, share: float = 0.5, most: int = 5) -> list[list[TopRegion]]:
    """Return the top regions of each map, largest mass first.

    They consist of the highest pixels that together hold `share` of the map's sum.

    Args:
        maps: (N, 1, H, W), >= 0 and finite.
        share: share of each map's sum, in (0, 1].
        most: largest number of regions per map, >= 1.

    Returns:
        One list per map; empty where the map is zero everywhere.

    Raises:
        ContractError: maps of another shape, negative, NaN or infinite values, or a share or number out of range.

    >>> [[region]] = top_regions(torch.tensor([[[[0.0, 3.0], [0.0, 1.0]]]]))
    >>> region.top, region.left, region.bottom, region.right, region.mass
    (0, 1, 1, 2, 0.75)
    """
    _check_arguments(maps, share, most)
    values = maps.detach()[:, 0].cpu().double().numpy()
    regions: list[list[TopRegion]] = [[] for _ in values]
    if values.size:
        # Scaling by a power of two rounds nothing, and sums of very large or small values stay in range.
        scaled = np.ldexp(values, -np.frexp(values.max((1, 2), keepdims=True))[1])
        _collect_regions(regions, values, scaled, top_pixels(scaled, share), most)
    return regions


def top_pixels(values: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Mark the highest pixels that hold `share` of each map.

    Maps are (N, H, W) >= 0. All pixels that tie with the last one are marked.
    """
    descending = -np.sort(-values.reshape(len(values), -1), axis=1)
    sums = descending.cumsum(1)
    last = (sums >= share * sums[:, -1:]).argmax(1)
    threshold = np.take_along_axis(descending, last[:, None], 1)[:, :, None]
    return (values >= threshold) & (values > 0)


def _collect_regions(
    regions: list[list[TopRegion]],
    values: NDArray[np.float64],
    scaled: NDArray[np.float64],
    pixels: NDArray[np.bool_],
    most: int,
) -> None:
    """Append each map's largest regions to its list.

    The marked pixels of all maps are labelled at once.
    """
    from scipy import ndimage

    neighbours = np.zeros((3, 3, 3), dtype=int)
    neighbours[1] = 1  # of the same map only
    labels, count = ndimage.label(pixels, structure=neighbours)
    boxes = ndimage.find_objects(labels)
    masses = np.asarray(ndimage.sum_labels(scaled, labels, np.arange(1, count + 1)))
    totals = scaled.sum((1, 2))
    # The sort is stable, so that regions of equal mass stay in reading order.
    for index in np.argsort(-masses, kind="stable"):
        image, rows, columns = boxes[index]
        if len(regions[image.start]) < most:
            mass = float(min(masses[index] / totals[image.start], 1.0))
            region = np.where(labels[boxes[index]][0] == index + 1, values[boxes[index]][0], -1.0)
            row, column = np.unravel_index(region.argmax(), region.shape)
            peak_at = int(rows.start + row), int(columns.start + column)
            box = rows.start, columns.start, rows.stop, columns.stop
            regions[image.start].append(TopRegion(*box, mass, float(region.max()), peak_at))


def _check_arguments(maps: Tensor, share: float, most: int) -> None:
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

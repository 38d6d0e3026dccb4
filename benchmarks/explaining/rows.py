"""The numbers of an explanation, as they are written to a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from benchmarks.explaining.draw import Box, to_image_box
from interp_core.datasets.files.resize import Geometry
from interp_core.lap.explanation import Explanation
from interp_core.pictures.top_regions import TopRegion, top_regions

SCALE, MANY, LEAST_MASS = 16, 20, 0.05


@dataclass(frozen=True)
class ClassRow:
    """The explanation of one class of an image.

    Attributes:
        index: of the class.
        name: of the class; its number where names are not known.
        logit: of the class.
        probability: of the class, by softmax, or by the sigmoid of a single logit.
        bias: part of the logit that belongs to no position.
        boxes: left, top, right, bottom in pixels of the image, with the share of the map they hold.
        picture: file of the overlay.
        map: file of the map.
    """

    index: int
    name: str
    logit: float
    probability: float
    bias: float
    boxes: tuple[dict[str, Any], ...]
    picture: str | None = None
    map: str | None = None


@dataclass(frozen=True)
class ImageRow:
    """The explanations of one image.

    Attributes:
        file: path of the image.
        size: its width and height in pixels, upright.
        seen: left, top, right, bottom of the part that the network saw.
        classes: explained, most likely first.
    """

    file: str
    size: tuple[int, int]
    seen: Box
    classes: tuple[ClassRow, ...]


def map_of(explanation: Explanation) -> Tensor:
    """Return the map (N, 1, H, W) that is shown: the improved one where there is one."""
    return explanation.map if explanation.stepped is None else explanation.stepped


def rows_of(
    explanation: Explanation, geometries: Sequence[Geometry], names: Sequence[str], share: float, most: int
) -> list[ClassRow]:
    """Return the numbers of one class of each image.

    Args:
        explanation: of N images.
        geometries: how each became the network's.
        names: of the K classes.
        share: of a map's positive part that boxes hold.
        most: largest number of boxes.
    """
    logits = explanation.logits.float()
    probabilities = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
    regions = broad_regions(map_of(explanation), share, most)
    rows = []
    for i, index in enumerate(explanation.targets.tolist()):
        boxes = tuple(_box(region, geometries[i]) for region in regions[i])
        logit, probability = float(logits[i, index]), float(probabilities[i, index])
        rows.append(ClassRow(index, names[index], logit, probability, float(explanation.bias[i]), boxes))
    return rows


def broad_regions(maps: Tensor, share: float, most: int) -> list[list[TopRegion]]:
    """Return the top regions of maps (N, 1, H, W) at the scale of a sixteenth of a side, without crumbs.

    A map follows edges, so that its highest pixels are many small regions. Averages over a neighbourhood are few large
    ones. Regions with less than a twentieth of the map, and those inside another's box, are left out.
    """
    width = max(maps.shape[-2:]) // SCALE // 2 * 2 + 1
    smooth = maps.clamp(min=0).float()
    for _ in range(2):
        smooth = F.avg_pool2d(smooth, width, 1, width // 2, count_include_pad=False)
    regions = top_regions(smooth, share=share, most=MANY)
    return [_without_crumbs(of_image)[:most] for of_image in regions]


def _without_crumbs(regions: Sequence[TopRegion]) -> list[TopRegion]:
    """Leave out regions of little mass, but not the first, and those inside the box of an earlier one."""
    chosen: list[TopRegion] = []
    for region in regions:
        is_small = bool(chosen) and region.mass < LEAST_MASS
        if not is_small and not any(_contains(other, region) for other in chosen):
            chosen.append(region)
    return chosen


def _contains(outer: TopRegion, inner: TopRegion) -> bool:
    return (
        outer.top <= inner.top
        and outer.left <= inner.left
        and outer.bottom >= inner.bottom
        and outer.right >= inner.right
    )


def _box(region: TopRegion, geometry: Geometry) -> dict[str, Any]:
    box = to_image_box((region.left, region.top, region.right, region.bottom), geometry)
    return {"box": [round(value, 1) for value in box], "share": round(region.mass, 4)}

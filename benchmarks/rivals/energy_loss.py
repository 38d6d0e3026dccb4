"""Energy loss: the share of a map's positive part that lies outside its region.

    object:      1 - sum(R+ M) / sum(R+)        the map belongs inside M
    irrelevant:      sum(R+ M) / sum(R+)        the map belongs outside M

Source: Rao et al., "Studying how to efficiently and effectively guide models with explanations", ICCV 2023 (1 minus
the energy inside a box). The form for irrelevant regions is its complement and ours.

Known limits: a map without positive values counts 1 (object) or 0 (irrelevant) and has no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from interp_core.errors import ContractError

TINY = 1e-8
REGIONS = ("object", "irrelevant")


def select_known(regions: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor] | None:
    """Select the images that have a mask of a region.

    Args:
        regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images without a mask.
        name: name of the region.

    Returns:
        Their indices (n,) and masks (n, 1, H, W); None if there are none.

    Raises:
        ContractError: a region has another name than those of `REGIONS`.
    """
    _check_names(regions)
    if name not in regions:
        return None
    masks = regions[name]
    rows = (~masks.isnan().flatten(1).any(1)).nonzero()[:, 0]
    return (rows, masks[rows]) if len(rows) else None


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Compute the share of the positive part of maps inside masks.

    Both are (n, 1, H, W). The share is (n,), in [0, 1].
    """
    positive = maps.clamp(min=0)
    return (positive * masks).sum((1, 2, 3)) / positive.sum((1, 2, 3)).clamp(min=TINY)


def energy_loss(maps: Tensor, regions: Mapping[str, Tensor]) -> Tensor:
    """Average the misplaced share of the maps over images, and sum it over regions.

    Args:
        maps: (N, 1, H, W), in the graph.
        regions: see `select_known`.

    Returns:
        A scalar >= 0 in the graph; 0 if no image has a mask.
    """
    total = maps.new_zeros(())
    for name in REGIONS:
        selection = select_known(regions, name)
        if selection is not None:
            rows, masks = selection
            inside = energy_inside(maps[rows], masks.to(maps.dtype)).mean()
            total = total + (1 - inside if name == "object" else inside)
    return total


def forbidden_pixels(regions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Merge the regions of each image into one mask.

    A pixel may not matter outside the object or inside the irrelevant region; the larger of both values counts.

    Args:
        regions: see `select_known`.

    Returns:
        Indices (n,) of the images with a region, and masks (n, 1, H, W) in [0, 1]; None if there are none.
    """
    _check_names(regions)
    forbidden = [1 - masks if name == "object" else masks for name, masks in regions.items()]
    if not forbidden:
        return None
    stack = torch.stack(forbidden)
    rows = (~stack.isnan().flatten(2).any(2)).any(0).nonzero()[:, 0]
    return (rows, stack.nan_to_num(0.0).amax(0)[rows]) if len(rows) else None


def _check_names(regions: Mapping[str, Tensor]) -> None:
    unknown = sorted(set(regions) - set(REGIONS))
    if unknown:
        raise ContractError(f"rivals know the regions {' and '.join(REGIONS)}, got {', '.join(unknown)}: rename them")

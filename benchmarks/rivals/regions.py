"""Energy loss: how much of a map's positive evidence lies where it does not belong.

    object:      1 - sum(R+ M) / sum(R+)        evidence belongs inside M
    irrelevant:      sum(R+ M) / sum(R+)        it does not

Source: Rao et al., "Studying how to efficiently and effectively guide models with explanations", ICCV 2023 (1 minus
the energy inside a box); the form for irrelevant regions is its complement, ours.
Known limits: a map without positive values counts 1 (object) or 0 (irrelevant) and has no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from interp_core.errors import ContractError

TINY = 1e-8
NAMES = ("object", "irrelevant")


def known(regions: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor] | None:
    """Rows (n,) of the images of which a region is known, and their masks (n, 1, H, W); None if there is none.

    Args:
        regions: (N, 1, H, W) in [0, 1] by name; rows of NaN where nothing is known.
        name: of the region.

    Raises:
        ContractError: a region has a name that rivals do not know.
    """
    _check(regions)
    if name not in regions:
        return None
    masks = regions[name]
    rows = (~masks.isnan().flatten(1).any(1)).nonzero()[:, 0]
    return (rows, masks[rows]) if len(rows) else None


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Share (n,) in [0, 1] of the positive part of maps (n, 1, H, W) that lies inside masks (n, 1, H, W)."""
    positive = maps.clamp(min=0)
    return (positive * masks).sum((1, 2, 3)) / positive.sum((1, 2, 3)).clamp(min=TINY)


def wrong_share(maps: Tensor, regions: Mapping[str, Tensor]) -> Tensor:
    """Mean share of positive evidence at the wrong place, added over regions; 0 where none is known.

    Args:
        maps: (N, 1, H, W), in the graph.
        regions: see `known`.
    """
    total = maps.new_zeros(())
    for name in NAMES:
        found = known(regions, name)
        if found is not None:
            inside = energy_inside(maps[found[0]], found[1].to(maps.dtype)).mean()
            total = total + (1 - inside if name == "object" else inside)
    return total


def wrong_places(regions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Rows (n,) of images with a region, and where evidence does not belong there, (n, 1, H, W) in [0, 1].

    Outside the object or inside what is irrelevant, whichever is larger; None if there is no region.
    """
    _check(regions)
    wrong = [1 - masks if name == "object" else masks for name, masks in regions.items()]
    if not wrong:
        return None
    found = torch.stack(wrong)
    rows = (~found.isnan().flatten(2).any(2)).any(0).nonzero()[:, 0]
    return (rows, found.nan_to_num(0.0).amax(0)[rows]) if len(rows) else None


def _check(regions: Mapping[str, Tensor]) -> None:
    other = sorted(set(regions) - set(NAMES))
    if other:
        raise ContractError(f"rivals know the regions {' and '.join(NAMES)}, got {', '.join(other)}: rename them")

"""A few masks become a mask for every image: a concept of LAP's is taught by them, and its map is the detector.

A first network, which may follow the shortcut as it likes, has a concept below its head that `Marked` ties to the
masks known. Where the concept's map exceeds one half in another image is where that image has the thing.

Limit: what looks like the thing at the level's resolution is taken for it; `judge_masks` says how often.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.studies.shortcut.data import Images
from interp_core.backbone.geometry import resize
from interp_core.knowledge import Marked
from interp_core.lap.model import LapModel

CONCEPT = "tag"
CONCEPTS = ("any", CONCEPT)  # the level's own, and the one that is taught
BATCH = 128


def marked(network: LapModel) -> Marked:
    """The term that teaches the concept at the finest level of `network`."""
    return Marked(of=f"{network.sites[0].module}:{CONCEPT}", region="irrelevant")


@torch.no_grad()
def detect(network: LapModel, images: Tensor) -> Tensor:
    """Masks (N, 1, H, W) bool of where images (N, C, H, W) show the concept."""
    return torch.cat([_detect(network, part) for part in images.split(BATCH)])


def _detect(network: LapModel, images: Tensor) -> Tensor:
    level, site = network.explain(images).below[0], network.sites[0]
    column = list(level.names).index(CONCEPT)
    maps = level.record.concepts[:, column : column + 1].float()
    height, width = images.shape[-2:]
    return resize(maps, height, width, (site.reduction - 1) / 2, site.reduction) > 0.5


def judge_masks(found: Tensor, images: Images) -> dict[str, float]:
    """Mean intersection over union with the tags, and mean share of each tag that was found, in [0, 1]."""
    both, either = ((found & images.tags), (found | images.tags))
    union, own = (mask.sum((1, 2, 3)).clamp(min=1) for mask in (either, images.tags))
    inside = both.sum((1, 2, 3))
    return {"found_iou": float((inside / union).mean()), "found_recall": float((inside / own).mean())}

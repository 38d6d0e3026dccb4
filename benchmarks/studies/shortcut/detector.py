"""Turn a few masks into a mask for every image, with a concept of LAP as the detector.

A first network, which may follow the shortcut, has a concept below its head that the term `Marked` fits to the known
masks. In other images the mask is where the concept's map exceeds one half.

Known limit: similar structures at the level's resolution are detected too; `score_masks` measures how often.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.studies.shortcut.data import TaggedImages
from interp_core.backbone.geometry import resize
from interp_core.knowledge import Marked
from interp_core.lap.model import LapModel

CONCEPT = "tag"
CONCEPTS = ("any", CONCEPT)  # the level's default concept, and the detector
BATCH = 128


def marking_term(network: LapModel) -> Marked:
    """Return the term that fits the concept at the finest level of `network` to the known masks."""
    return Marked(of=f"{network.sites[0].module}:{CONCEPT}", region="irrelevant")


@torch.no_grad()
def detect(network: LapModel, images: Tensor) -> Tensor:
    """Return masks (N, 1, H, W) bool of the concept in images (N, C, H, W)."""
    return torch.cat([_detect(network, batch) for batch in images.split(BATCH)])


def _detect(network: LapModel, images: Tensor) -> Tensor:
    site = network.sites[0]
    level = next(level for level in network.explain(images).levels if level.name == site.module)
    assert level.concepts is not None, "a network that was trained to find them has concepts"
    column = list(level.names).index(CONCEPT)
    maps = level.concepts[:, column : column + 1].float()
    height, width = images.shape[-2:]
    return resize(maps, height, width, site.grid_of((height, width))) > 0.5


def score_masks(masks: Tensor, images: TaggedImages) -> dict[str, float]:
    """Compute mean intersection over union with the tags and mean recall of each tag, in [0, 1]."""
    intersection = (masks & images.tags).sum((1, 2, 3))
    union, tag_area = (mask.sum((1, 2, 3)).clamp(min=1) for mask in (masks | images.tags, images.tags))
    return {
        "found_iou": float((intersection / union).mean()),
        "found_recall": float((intersection / tag_area).mean()),
    }

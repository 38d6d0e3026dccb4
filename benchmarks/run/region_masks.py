"""Masks of a few training images, as a stage's regions ask for them: from arrays, or read from files.

Of files only the chosen ones are read, a few at a time. Known limit: the masks stay in memory, one byte a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import RegionSource
from benchmarks.run.images import RunImages
from interp_core.datasets import Images, ImageSet
from interp_core.datasets.files.image_set import BATCH, FileImageSet, Item
from interp_core.datasets.files.sampling import has_evidence, progress_in_class
from interp_core.errors import UnknownNameError

EVIDENCE = "mask"


def regions_of(
    data: RunImages, split: Images, sources: Mapping[str, RegionSource], seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Indices (n,) of the images that get a mask, and these masks (n, 1, H, W) bool, by name of the region.

    Args:
        data: reads them.
        split: the training images.
        sources: by name of the region.
        seed: of the training, added to that of each source.

    Raises:
        UnknownNameError: the images have no such mask.
        ConfigError: none of them has one.
    """
    return {name: _region(data, split, name, source, seed) for name, source in sources.items()}


def _region(data: RunImages, split: Images, name: str, source: RegionSource, seed: int) -> tuple[Tensor, Tensor]:
    known = candidates(split, source.of)
    count = max(1, round(source.share * len(known)))
    chosen = known[draw_images(split.targets[known], count, source, seed)]
    indices, masks = [], []
    for numbers, part in data.parts(split, np.array_split(chosen, -(-len(chosen) // BATCH) or 1)):
        found = part.masks if source.of == EVIDENCE else part.regions[source.of]
        left = found.any((1, 2, 3))  # a box may lie outside what the preprocessing keeps of the picture
        indices.append(numbers[left])
        masks.append(~found[left] if source.outside else found[left])
    if not any(len(part) for part in indices):
        raise ConfigError(
            f"region {name!r}: no training image that can be read has a {source.of}: leave the region out"
        )
    return torch.from_numpy(np.concatenate(indices)), torch.from_numpy(np.concatenate(masks))


def candidates(split: Images, of: str) -> np.ndarray:
    """Indices (n,) of the images that have a mask of this name, found without opening a file.

    Raises:
        UnknownNameError: no mask has this name.
    """
    named = {EVIDENCE: split.masks, **split.regions} if isinstance(split, ImageSet) else {EVIDENCE: None}
    if of not in named:
        raise UnknownNameError("mask of the training images", of, named)
    masks = named[of]
    if masks is not None:
        return np.flatnonzero(masks.any((1, 2, 3)))
    if isinstance(split, FileImageSet):
        return np.flatnonzero([_has_evidence(item) for item in split.items])
    return np.arange(len(split))


def _has_evidence(item: Item) -> bool:
    record = item.record
    return bool(record.boxes or record.masks) if item.target is None else has_evidence(record, item.target)


def draw_images(targets: np.ndarray, count: int, source: RegionSource, seed: int) -> np.ndarray:
    """Indices (count,) of the drawn images, in their order; of one seed a smaller draw is a part of a larger one.

    Args:
        targets: (N,) classes, or (N, K) where an image may show several.
        count: how many, at most N.
        source: how and with which seed.
        seed: added to it.
    """
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(source.seed + seed)).numpy()
    if source.draw == "stratified" and targets.ndim == 1:
        order = order[np.argsort(progress_in_class(targets[order]), kind="stable")]
    return np.sort(order[:count])

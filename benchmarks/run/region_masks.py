"""Collect the region masks of a few training images, for the loss terms of a training stage.

Of a data set of files only the drawn images are read, a few at a time. Known limit: masks stay in memory, one byte a
pixel.
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
    images: RunImages, split: Images, sources: Mapping[str, RegionSource], seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Draw images for each region, and read their masks.

    Args:
        images: read them.
        split: the training images.
        sources: by name of the region.
        seed: of the training, added to that of each source.

    Returns:
        By name of the region: indices (n,) of the images, and their masks (n, 1, H, W) bool.

    Raises:
        UnknownNameError: the images have no such mask.
        ConfigError: none of the images has one.
    """
    return {name: _region(images, split, name, source, seed) for name, source in sources.items()}


def _region(images: RunImages, split: Images, name: str, source: RegionSource, seed: int) -> tuple[Tensor, Tensor]:
    with_mask = candidates(split, source.of)
    count = max(1, round(source.share * len(with_mask)))
    sample = with_mask[draw_images(split.targets[with_mask], count, source, seed)]
    indices, masks = [], []
    for numbers, batch in images.read(split, np.array_split(sample, -(-len(sample) // BATCH) or 1)):
        inside = batch.masks if source.of == EVIDENCE else batch.regions[source.of]
        visible = inside.any((1, 2, 3))  # preprocessing may have cut a box off
        indices.append(numbers[visible])
        masks.append(~inside[visible] if source.outside else inside[visible])
    if not any(len(batch) for batch in indices):
        raise ConfigError(
            f"region {name!r}: no training image that can be read has a {source.of}: leave the region out"
        )
    return torch.from_numpy(np.concatenate(indices)), torch.from_numpy(np.concatenate(masks))


def candidates(split: Images, of: str) -> np.ndarray:
    """Return indices (n,) of the images that have a mask of some name, without opening a file.

    Raises:
        UnknownNameError: no mask has this name.
    """
    by_name = {EVIDENCE: split.masks, **split.regions} if isinstance(split, ImageSet) else {EVIDENCE: None}
    if of not in by_name:
        raise UnknownNameError("mask of the training images", of, by_name)
    masks = by_name[of]
    if masks is not None:
        return np.flatnonzero(masks.any((1, 2, 3)))
    if isinstance(split, FileImageSet):
        return np.flatnonzero([_has_evidence(item) for item in split.items])
    return np.arange(len(split))


def _has_evidence(item: Item) -> bool:
    record = item.record
    return bool(record.boxes or record.masks) if item.target is None else has_evidence(record, item.target)


def draw_images(targets: np.ndarray, count: int, source: RegionSource, seed: int) -> np.ndarray:
    """Draw images at random; with one seed a smaller draw is a subset of a larger one.

    Args:
        targets: (N,) classes, or (N, K) for multi-label images.
        count: number of images, at most N.
        source: says how to draw, and the seed.
        seed: added to that seed.

    Returns:
        Indices (count,), in ascending order.
    """
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(source.seed + seed)).numpy()
    if source.draw == "stratified" and targets.ndim == 1:
        order = order[np.argsort(progress_in_class(targets[order]), kind="stable")]
    return np.sort(order[:count])

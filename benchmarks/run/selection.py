"""Select the images to explain, a few of the test split, and hand them out shard by shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.config.errors import ConfigError
from benchmarks.plan.cells import shards
from benchmarks.run.images import Statistics
from benchmarks.run.shard import Shard
from interp_core.datasets import Images, ImageSet
from interp_core.errors import StoreError
from interp_core.training import predict


def correct_everywhere(
    networks: Iterable[nn.Module],
    batches: Iterable[tuple[Tensor, Tensor, np.ndarray]],
    count: int,
    *,
    multi_label: bool = False,
) -> np.ndarray:
    """Return indices of the first images that every network classifies correctly.

    Args:
        networks: in evaluation mode.
        batches: images (N, C, H, W) as the networks take them, targets (N,), and indices (N,). Reading ends with the
            batch that has the last image.
        count: most images to return.
        multi_label: an image counts as correct if the logit of its target is positive, not only if it is the highest.

    Raises:
        ConfigError: there is none.
    """
    networks, selected = list(networks), np.empty(0, np.int64)
    for images, targets, indices in batches:
        correct = torch.ones(len(targets), dtype=torch.bool)
        for network in networks:
            logits = predict(network, images)
            correct &= logits.gather(1, targets[:, None])[:, 0] > 0 if multi_label else logits.argmax(1) == targets
        selected = np.concatenate([selected, indices[correct.numpy()]])[:count]
        if len(selected) == count:
            break
    if len(selected) == 0:
        raise ConfigError("no test image is classified correctly by every network: train longer (recipe.epochs)")
    return selected


class SelectedImages:
    """The images to explain. Their pixels stay in files, or uint8, until a shard is read.

    Args:
        split: the images they were selected from.
        indices: (n,) of the selected images, in their order.
        shard_size: images in a shard.

    Attributes:
        ids: n image ids.
    """

    def __init__(self, split: Images, indices: np.ndarray, shard_size: int) -> None:
        self.split, self.indices, self.shard_size = split, indices, shard_size
        self.ids = [split.ids[i] for i in indices]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def starts(self) -> list[int]:
        """Number of the first image of each shard."""
        return [start for start, _ in shards(len(self), self.shard_size)]

    def shard(self, start: int, statistics: Statistics) -> Shard:
        """Read one shard.

        Args:
            start: number of its first image.
            statistics: mean and standard deviation that normalise it.

        Raises:
            StoreError: one of its images can no longer be read.
        """
        return Shard(start, self._read(self.indices[start : start + self.shard_size]), statistics)

    def shards(self, statistics: Statistics) -> Iterator[Shard]:
        """Yield all shards, read one by one."""
        return (self.shard(start, statistics) for start in self.starts)

    def take(self, numbers: Sequence[int]) -> ImageSet:
        """Read single images by their number among the selected ones.

        Raises:
            StoreError: one of them can no longer be read.
        """
        return self._read(self.indices[np.asarray(numbers, dtype=np.int64)])

    def _read(self, indices: np.ndarray) -> ImageSet:
        images = self.split.take(indices)
        if len(images) < len(indices):
            lost = next(name for name in (self.split.ids[i] for i in indices) if name not in images.ids)
            raise StoreError(f"image {lost} can no longer be read, and could before: have files moved during the run?")
        return images

    def areas(self) -> dict[str, float]:
        """Return the share of each image that its evidence covers, by id."""
        areas = self.split.areas(self.indices)
        return {image_id: round(float(area), 5) for image_id, area in zip(self.ids, areas, strict=True)}

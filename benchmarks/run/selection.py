"""The images that are explained: a few of the test split, handed out shard by shard."""

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
    most: int,
    *,
    multi_label: bool = False,
) -> np.ndarray:
    """Indices of the first `most` images that every network classifies correctly; batches after them are not asked for.

    Args:
        networks: in evaluation mode.
        batches: images (N, C, H, W) as the networks take them, targets (N,), and indices (N,), which are returned.
        most: images wanted.
        multi_label: whether a positive logit of the target is correct, and not the highest one.

    Raises:
        ConfigError: there is none.
    """
    networks, chosen = list(networks), np.empty(0, np.int64)
    for images, targets, numbers in batches:
        kept = torch.ones(len(targets), dtype=torch.bool)
        for network in networks:
            logits = predict(network, images)
            kept &= logits.gather(1, targets[:, None])[:, 0] > 0 if multi_label else logits.argmax(1) == targets
        chosen = np.concatenate([chosen, numbers[kept.numpy()]])[:most]
        if len(chosen) == most:
            break
    if len(chosen) == 0:
        raise ConfigError("no test image is classified correctly by every network: train longer (recipe.epochs)")
    return chosen


class SelectedImages:
    """Images of a split that are explained. Pixels stay where they are, in files or uint8, until a shard is asked for.

    Args:
        split: all images.
        indices: (n,) of the chosen ones, in their order.
        size: images of a shard.
    """

    def __init__(self, split: Images, indices: np.ndarray, size: int) -> None:
        self.split, self.indices, self.size = split, indices, size
        self.ids = [split.ids[i] for i in indices]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def starts(self) -> list[int]:
        """Number of the first image of each shard."""
        return [start for start, _ in shards(len(self), self.size)]

    def shard(self, start: int, statistics: Statistics) -> Shard:
        """The shard that begins with image number `start`, to be normalised by `statistics`.

        Raises:
            StoreError: one of its images can no longer be read.
        """
        return Shard(start, self._read(self.indices[start : start + self.size]), statistics)

    def shards(self, statistics: Statistics) -> Iterator[Shard]:
        """All shards, made one by one."""
        return (self.shard(start, statistics) for start in self.starts)

    def take(self, places: Sequence[int]) -> ImageSet:
        """Single images by their number among the chosen ones.

        Raises:
            StoreError: one of them can no longer be read.
        """
        return self._read(self.indices[np.asarray(places, dtype=np.int64)])

    def _read(self, indices: np.ndarray) -> ImageSet:
        found = self.split.take(indices)
        if len(found) < len(indices):
            lost = next(name for name in (self.split.ids[i] for i in indices) if name not in found.ids)
            raise StoreError(f"image {lost} can no longer be read, and could before: have files moved during the run?")
        return found

    def areas(self) -> dict[str, float]:
        """Share of each image that its evidence covers, by id."""
        found = self.split.areas(self.indices)
        return {name: round(float(area), 5) for name, area in zip(self.ids, found, strict=True)}

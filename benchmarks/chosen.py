"""The images that are explained: a few of the test split, handed out shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.plan import shards
from benchmarks.work import Shard, Statistics
from interp_core.datasets import Split


class Chosen:
    """Images of a split that are explained. Pixels stay where they are, uint8, until a shard is asked for.

    Args:
        split: all images.
        indices: (n,) of the chosen ones, in their order.
        statistics: mean and standard deviation per channel that normalise them.
        size: images of a shard.
    """

    def __init__(self, split: Split, indices: np.ndarray, statistics: Statistics, size: int) -> None:
        self.split, self.indices, self.statistics, self.size = split, indices, statistics, size
        self.ids = [split.ids[i] for i in indices]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def starts(self) -> list[int]:
        """Number of the first image of each shard."""
        return [start for start, _ in shards(len(self), self.size)]

    def shard(self, start: int) -> Shard:
        """The shard that begins with image number `start`."""
        return Shard(start, self.split.take(self.indices[start : start + self.size]), self.statistics)

    def shards(self) -> Iterator[Shard]:
        """All shards, made one by one."""
        return (self.shard(start) for start in self.starts)

    def take(self, places: Sequence[int]) -> Split:
        """Single images by their number among the chosen ones."""
        return self.split.take(self.indices[np.asarray(places, dtype=np.int64)])

    def areas(self) -> dict[str, float]:
        """Share of each image that its evidence covers, by id."""
        return {
            name: round(float(self.split.masks[i].mean()), 5) for name, i in zip(self.ids, self.indices, strict=True)
        }

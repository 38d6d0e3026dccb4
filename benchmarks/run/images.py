"""The images of a run: split by split when they are asked for, normalised for a network, and never more than wanted.

A split in memory (`ImageSet`) stays there, uint8, until it is forgotten; a `FileImageSet` is read as it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from interp_core.datasets import DatasetConfig, Images, ImageSet, SplitName
from interp_core.training import Source, eval_batch_size

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

# Statistics under which images stay in [0, 1].
PLAIN: Statistics = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class RunImages:
    """The run's data set, made split by split when it is asked for.

    Attributes:
        seconds: spent making and reading images.
    """

    def __init__(self, dataset: DatasetConfig) -> None:
        self.dataset = dataset
        self.seconds = 0.0
        self._kept: dict[tuple[str, SplitName], Images] = {}
        self._lost: dict[SplitName, dict[str, str]] = {}
        self._statistics: Statistics | None = None

    def split(self, name: SplitName) -> Images:
        """Images of one split, kept."""
        return self._made("load", name, self.dataset.load)

    def explained(self, name: SplitName) -> Images:
        """What can be explained of one split, kept."""
        if type(self.dataset).load_explained is DatasetConfig.load_explained:  # all of them, and they may be large
            return self.split(name)
        return self._made("explained", name, self.dataset.load_explained)

    def _made(self, kind: str, name: SplitName, make: Callable[[SplitName], Images]) -> Images:
        begin = time.perf_counter()
        if (kind, name) not in self._kept:
            self._kept[kind, name] = make(name)
        self.seconds += time.perf_counter() - begin
        return self._kept[kind, name]

    @property
    def statistics(self) -> Statistics:
        """Mean and standard deviation per channel of the training images, in [0, 1] units; kept."""
        if self._statistics is None:
            begin = time.perf_counter()
            self._statistics = self.dataset.channel_statistics()
            self.seconds += time.perf_counter() - begin
        return self._statistics

    def tensors(self, split: ImageSet, statistics: Statistics | None = None) -> tuple[Tensor, Tensor]:
        """Normalised images (N, C, H, W) float32 and targets.

        Args:
            split: images in memory.
            statistics: that normalise them; None for those of the training images.
        """
        begin = time.perf_counter()
        images = normalised(split.images, self.statistics if statistics is None else statistics)
        self.seconds += time.perf_counter() - begin
        return images, torch.from_numpy(split.targets)

    def source(self, split: Images, statistics: Statistics) -> tuple[Tensor | Source, Tensor]:
        """Images as `fit` takes them, and targets: a tensor where they are in memory, else read batch by batch."""
        if isinstance(split, ImageSet):
            return self.tensors(split, statistics)
        return FileImageSource(self, split, statistics), torch.from_numpy(split.targets)

    def batches(
        self, split: Images, statistics: Statistics | None = None, size: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """All images that can be read, `size` at a time: normalised, their targets, and their indices.

        Args:
            split: images.
            statistics: that normalise them; None for those of the training images.
            size: only so many are ever floating point; None for fewer where images are large.
        """
        size = size or eval_batch_size(split.shape)
        parts = [np.arange(start, min(start + size, len(split))) for start in range(0, len(split), size)]
        for numbers, part in self.parts(split, parts):
            yield *self.tensors(part, statistics), numbers

    def parts(self, split: Images, chosen: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """`split.batches`, its time counted as that of data, parts of which nothing can be read left out."""
        found = split.batches(chosen)
        while True:
            begin = time.perf_counter()
            made = next(found, None)
            self.seconds += time.perf_counter() - begin
            if made is None:
                return
            if len(made[0]):
                yield made

    @property
    def unreadable(self) -> dict[SplitName, dict[str, str]]:
        """Ids of images that could not be read so far, with the reason, by split."""
        found = {name: dict(lost) for name, lost in self._lost.items()}
        for (_, name), split in self._kept.items():
            if split.unreadable:
                found.setdefault(name, {}).update(split.unreadable)
        return found

    def forget(self, name: SplitName) -> None:
        """Free a split."""
        for key in [key for key in self._kept if key[1] == name]:
            if lost := self._kept.pop(key).unreadable:
                self._lost.setdefault(name, {}).update(lost)


class FileImageSource:
    """Images of files as `fit` takes them: normalised, read ahead in the order of the batches.

    Args:
        data: whose time is counted.
        split: images.
        statistics: that normalise them.
    """

    def __init__(self, data: RunImages, split: Images, statistics: Statistics) -> None:
        self.data, self.split, self.statistics = data, split, statistics

    def __len__(self) -> int:
        return len(self.split)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.split), *self.split.shape)

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each of `chosen` (n,) the indices that could be read, and these images."""
        for numbers, part in self.data.parts(self.split, [indices.numpy() for indices in chosen]):
            yield torch.from_numpy(numbers), self.data.tensors(part, self.statistics)[0]


def normalised(images: np.ndarray, statistics: Statistics) -> Tensor:
    """Images (N, C, H, W) uint8 as float32 of mean 0 and standard deviation 1 per channel.

    Args:
        images: pixels.
        statistics: mean and standard deviation (C,) of the training images, in [0, 1] units.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    return (torch.from_numpy(images).float() / 255 - mean) / std

"""Load the images of a run split by split, and normalise them for a network.

A split in memory (`ImageSet`, uint8) stays there until it is forgotten; files of a `FileImageSet` are read when they
are used. Only the images of one batch are floating point numbers.
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
    """The splits of a data set, each loaded when it is first asked for.

    Args:
        dataset: the data set.

    Attributes:
        seconds: time spent on making and reading images.
    """

    def __init__(self, dataset: DatasetConfig) -> None:
        self.dataset = dataset
        self.seconds = 0.0
        self._splits: dict[tuple[str, SplitName], Images] = {}
        self._forgotten_unreadable: dict[SplitName, dict[str, str]] = {}
        self._statistics: Statistics | None = None

    def split(self, name: SplitName) -> Images:
        """Return the images of a split, loaded once."""
        return self._load_once("load", name, self.dataset.load)

    def split_to_explain(self, name: SplitName) -> Images:
        """Return the images of a split that can be explained, loaded once."""
        if type(self.dataset).load_explained is DatasetConfig.load_explained:  # all of them, and they may be large
            return self.split(name)
        return self._load_once("explained", name, self.dataset.load_explained)

    def _load_once(self, kind: str, name: SplitName, load: Callable[[SplitName], Images]) -> Images:
        begin = time.perf_counter()
        if (kind, name) not in self._splits:
            self._splits[kind, name] = load(name)
        self.seconds += time.perf_counter() - begin
        return self._splits[kind, name]

    @property
    def statistics(self) -> Statistics:
        """Mean and standard deviation per channel of the training images, in [0, 1] units; computed once."""
        if self._statistics is None:
            begin = time.perf_counter()
            self._statistics = self.dataset.channel_statistics()
            self.seconds += time.perf_counter() - begin
        return self._statistics

    def tensors(self, split: ImageSet, statistics: Statistics | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised images (N, C, H, W) float32, and targets.

        Args:
            split: images in memory.
            statistics: that normalise them; None for those of the training images.
        """
        begin = time.perf_counter()
        images = normalised(split.images, self.statistics if statistics is None else statistics)
        self.seconds += time.perf_counter() - begin
        return images, torch.from_numpy(split.targets)

    def source(self, split: Images, statistics: Statistics) -> tuple[Tensor | Source, Tensor]:
        """Return images in the form that `fit` takes, and targets: a tensor if they are in memory, else a source."""
        if isinstance(split, ImageSet):
            return self.tensors(split, statistics)
        return FileImageSource(self, split, statistics), torch.from_numpy(split.targets)

    def batches(
        self, split: Images, statistics: Statistics | None = None, size: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """Yield all images that can be read, in batches: normalised images, targets, indices.

        Args:
            split: images.
            statistics: that normalise them; None for those of the training images.
            size: images in a batch; None for a number that depends on the size of the images.
        """
        size = size or eval_batch_size(split.shape)
        batches = [np.arange(start, min(start + size, len(split))) for start in range(0, len(split), size)]
        for indices, images in self.read(split, batches):
            yield *self.tensors(images, statistics), indices

    def read(self, split: Images, batches: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """Read images, and count the time; see `Images.batches`.

        Args:
            split: images.
            batches: indices of each batch.

        Yields:
            Indices of the images that could be read, and these images. Batches without any are left out.
        """
        batches_read = split.batches(batches)
        while True:
            begin = time.perf_counter()
            batch = next(batches_read, None)
            self.seconds += time.perf_counter() - begin
            if batch is None:
                return
            if len(batch[0]):
                yield batch

    @property
    def unreadable(self) -> dict[SplitName, dict[str, str]]:
        """Reasons why images could not be read so far, by split and image id."""
        reasons = {name: dict(by_id) for name, by_id in self._forgotten_unreadable.items()}
        for (_, name), split in self._splits.items():
            if split.unreadable:
                reasons.setdefault(name, {}).update(split.unreadable)
        return reasons

    def forget(self, name: SplitName) -> None:
        """Free the memory of a split."""
        for key in [key for key in self._splits if key[1] == name]:
            if unreadable := self._splits.pop(key).unreadable:
                self._forgotten_unreadable.setdefault(name, {}).update(unreadable)


class FileImageSource:
    """Images of files in the form that `fit` takes: normalised, and read ahead in the order of the batches.

    Args:
        images: count the time of reading.
        split: images to read.
        statistics: that normalise them.
    """

    def __init__(self, images: RunImages, split: Images, statistics: Statistics) -> None:
        self.images, self.split, self.statistics = images, split, statistics

    def __len__(self) -> int:
        return len(self.split)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.split), *self.split.shape)

    def batches(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each batch of indices (n,), those of the images that could be read, and these images."""
        for indices, images in self.images.read(self.split, [batch.numpy() for batch in batches]):
            yield torch.from_numpy(indices), self.images.tensors(images, self.statistics)[0]


def normalised(images: np.ndarray, statistics: Statistics) -> Tensor:
    """Convert images (N, C, H, W) from uint8 to float32 with mean 0 and standard deviation 1.

    Args:
        images: pixels.
        statistics: mean and standard deviation (C,) per channel, in [0, 1] units.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    return (torch.from_numpy(images).float() / 255 - mean) / std

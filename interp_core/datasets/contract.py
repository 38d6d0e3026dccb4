"""What every data set gives: arrays of images, targets and evidence, with stable ids. Data sets know no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from interp_core.datasets.records import Finding, SplitName
from interp_core.errors import ContractError
from interp_core.registry import ClassRegistry


class Images(Protocol):
    """Images of one split as a run uses them, in memory (`ImageSet`) or in files (`FileImageSet`)."""

    @property
    def ids(self) -> Sequence[str]:
        """N stable names."""

    @property
    def targets(self) -> np.ndarray:
        """(N,) int64 class indices, or (N, K) float32 of 0 and 1 where an image may show several classes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, H, W) of every image."""

    @property
    def unreadable(self) -> dict[str, str]:
        """Ids of images that could not be read so far, with the reason."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> ImageSet:
        """The images at `indices` (n,) int, in that order; those that cannot be read are left out."""

    def batches(self, chosen: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """For each of `chosen` (n,) int the indices that could be read (m,), and their images."""

    def areas(self, indices: np.ndarray) -> np.ndarray:
        """Share (n,) of each image that its evidence covers."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, in memory, with what is known about them.

    Attributes:
        images: (N, 3, H, W) uint8.
        targets: (N,) int64 class indices, or (N, K) float32 of 0 and 1 where an image may show several classes.
        masks: (N, 1, H, W) bool, True where the evidence for the class lies.
        ids: N stable names, unique in the data set.
        regions: further named masks (N, 1, H, W) bool, such as "tag" for a region known to be irrelevant.
    """

    images: np.ndarray
    targets: np.ndarray
    masks: np.ndarray
    ids: list[str]
    regions: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, h, w = len(self.images), *self.images.shape[-2:]
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ContractError(f"images must be (N, 3, H, W) uint8, got {self.images.shape} {self.images.dtype}")
        for name, mask in {"masks": self.masks, **self.regions}.items():
            if mask.shape != (n, 1, h, w) or mask.dtype != np.bool_:
                raise ContractError(f"{name} must be {(n, 1, h, w)} bool, got {mask.shape} {mask.dtype}")
        if self.targets.shape[:1] != (n,) or self.targets.ndim > 2 or len(self.ids) != n:
            raise ContractError(f"{n} images need {n} targets and ids, got {self.targets.shape} and {len(self.ids)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, H, W) of every image."""
        return self.images.shape[1:]

    @property
    def unreadable(self) -> dict[str, str]:
        """None: what is in memory has been read."""
        return {}

    def take(self, indices: np.ndarray) -> ImageSet:
        """The images at `indices` (n,) int, in that order."""
        return ImageSet(
            self.images[indices],
            self.targets[indices],
            self.masks[indices],
            [self.ids[i] for i in indices],
            {name: mask[indices] for name, mask in self.regions.items()},
        )

    def batches(self, chosen: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """For each of `chosen` (n,) int these indices and their images."""
        return ((indices, self.take(indices)) for indices in chosen)

    def areas(self, indices: np.ndarray) -> np.ndarray:
        """Share (n,) of each image that its evidence covers."""
        return np.array([self.masks[i].mean() for i in indices])


class DatasetConfig(BaseModel):
    """Parameters of a data set; its class is what the registry holds. Subclasses add fields and write `load`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the target indices."""
        raise NotImplementedError(f"{type(self).__name__} must define classes")

    @property
    def multi_label(self) -> bool:
        """Whether an image may show any number of classes."""
        return False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the data set's files, and did not stop it from being used."""
        return ()

    def load(self, split: SplitName) -> Images:
        """The images of one split."""
        raise NotImplementedError(f"{type(self).__name__} must define load")

    def load_explained(self, split: SplitName) -> Images:
        """What can be explained of a split; targets are (N,) also where an image may show several classes."""
        return self.load(split)

    def identity(self) -> dict[str, Any]:
        """All that decides what `load` gives, as plain data: the same wherever the data lie."""
        return {"name": self.name, **self.model_dump(mode="json")}

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of the training images, in [0, 1] units."""
        split = self.load("train")
        images = split.take(np.arange(len(split))).images.astype(np.float32) / 255
        return tuple(images.mean((0, 2, 3)).tolist()), tuple(images.std((0, 2, 3)).tolist())


datasets: ClassRegistry[DatasetConfig] = ClassRegistry("data set", "interp_bench.datasets")

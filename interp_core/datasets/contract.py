"""The data set contract: arrays of images, targets and evidence masks with stable ids. Data sets know no model."""

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
        """(N,) int64 class indices, or (N, K) float32 of 0 and 1 in a multi-label data set."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, H, W) of every image."""

    @property
    def unreadable(self) -> dict[str, str]:
        """Reasons by id of the images that could not be read so far."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> ImageSet:
        """Return the images at `indices` (n,) int, in that order, without those that cannot be read."""

    def batches(self, chosen: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """Yield, for each of `chosen` (n,) int, the indices that could be read (m,) and their images."""

    def areas(self, indices: np.ndarray) -> np.ndarray:
        """Return the share (n,) of each image that its evidence covers."""


@dataclass(frozen=True)
class ImageSet:
    """Images in memory, with their targets and evidence masks.

    Attributes:
        images: (N, 3, H, W) uint8.
        targets: (N,) int64 class indices, or (N, K) float32 of 0 and 1 in a multi-label data set.
        masks: (N, 1, H, W) bool, True where the evidence for the class lies.
        ids: N stable names, unique in the data set.
        regions: further named masks (N, 1, H, W) bool, such as "tag" for a region known to be irrelevant.

    Raises:
        ContractError: an array has the wrong shape or type.
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
        """Always empty: images in memory have been read."""
        return {}

    def take(self, indices: np.ndarray) -> ImageSet:
        """Return the images at `indices` (n,) int, in that order."""
        return ImageSet(
            self.images[indices],
            self.targets[indices],
            self.masks[indices],
            [self.ids[i] for i in indices],
            {name: mask[indices] for name, mask in self.regions.items()},
        )

    def batches(self, chosen: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """Yield each of `chosen` (n,) int with the images at these indices."""
        return ((indices, self.take(indices)) for indices in chosen)

    def areas(self, indices: np.ndarray) -> np.ndarray:
        """Return the share (n,) of each image that its evidence covers."""
        return np.array([self.masks[i].mean() for i in indices])


class DatasetConfig(BaseModel):
    """Parameters of a data set. Subclasses add fields and write `classes` and `load`.

    Class attributes:
        name: name in the registry and in configurations; registration sets it.
        title: name in tables; the registered name unless the class sets it.
    """

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
        """Defects of the files that do not prevent their use."""
        return ()

    def load(self, split: SplitName) -> Images:
        """Return the images of a split."""
        raise NotImplementedError(f"{type(self).__name__} must define load")

    def load_explained(self, split: SplitName) -> Images:
        """Return the images of a split that can be explained; targets are (N,), also in a multi-label data set."""
        return self.load(split)

    def identity(self) -> dict[str, Any]:
        """Return everything that decides what `load` gives, as plain data that does not depend on the machine."""
        return {"name": self.name, **self.model_dump(mode="json")}

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation per channel of the training images, in [0, 1] units."""
        split = self.load("train")
        images = split.take(np.arange(len(split))).images.astype(np.float32) / 255
        return tuple(images.mean((0, 2, 3)).tolist()), tuple(images.std((0, 2, 3)).tolist())


datasets: ClassRegistry[DatasetConfig] = ClassRegistry("data set", "interp_bench.datasets")

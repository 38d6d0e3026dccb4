"""What every data set gives: arrays of images, targets and evidence, with stable ids. Data sets know no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from interp_core.errors import ContractError
from interp_core.registry import Registry

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Images of one split with what is known about them.

    Attributes:
        images: (N, 3, H, W) uint8.
        targets: (N,) int64 class indices.
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
        if self.targets.shape != (n,) or len(self.ids) != n:
            raise ContractError(f"{n} images need {n} targets and ids, got {self.targets.shape} and {len(self.ids)}")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> Split:
        """The images at `indices` (n,) int, in that order."""
        return Split(
            self.images[indices],
            self.targets[indices],
            self.masks[indices],
            [self.ids[i] for i in indices],
            {name: mask[indices] for name, mask in self.regions.items()},
        )


class DatasetConfig(BaseModel):
    """Parameters of a data set; its class is what the registry holds. Subclasses add fields and write `load`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the target indices."""
        raise NotImplementedError(f"{type(self).__name__} must define classes")

    def load(self, split: SplitName) -> Split:
        """The images of one split."""
        raise NotImplementedError(f"{type(self).__name__} must define load")

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of the training images, in [0, 1] units."""
        images = self.load("train").images.astype(np.float32) / 255
        return tuple(images.mean((0, 2, 3)).tolist()), tuple(images.std((0, 2, 3)).tolist())


datasets: Registry[type[DatasetConfig]] = Registry("data set", "interp_bench.datasets")

"""Parts of a data set for repairs: labelled images, held-out images, images that fit into memory.

A repair reads its images once an epoch, so a small data set is read into memory first. A large one is read again from
its files, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from interp_core.datasets import Images, ImageSet
from interp_core.errors import ContractError

MEMORY = 2 << 30  # bytes of pixels that are kept
BATCH = 32


class Subset:
    """Some images of a data set, as a data set of their own.

    Args:
        images: the data set.
        rows: (n,) indices in it.
    """

    def __init__(self, images: Images, rows: np.ndarray) -> None:
        self._images, self._rows = images, np.asarray(rows)
        self._position = np.full(len(images), -1)
        self._position[self._rows] = np.arange(len(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ids(self) -> Sequence[str]:
        """Names of the n images."""
        return [self._images.ids[row] for row in self._rows]

    @property
    def targets(self) -> np.ndarray:
        """Targets of the n images."""
        return self._images.targets[self._rows]

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, H, W) of every image."""
        return self._images.shape

    @property
    def unreadable(self) -> dict[str, str]:
        """Reasons by id of the images that could not be read so far."""
        return self._images.unreadable

    def take(self, indices: np.ndarray) -> ImageSet:
        """Return the images at `indices` (m,) that can be read."""
        return self._images.take(self._rows[indices])

    def batches(self, chosen: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """Yield, for each of `chosen` (m,) int, the indices that could be read and their images."""
        for rows, batch in self._images.batches(self._rows[indices] for indices in chosen):
            yield self._position[rows], batch

    def areas(self, indices: np.ndarray) -> np.ndarray:
        """Return the share (m,) of each image that its evidence covers."""
        return self._images.areas(self._rows[indices])


def select_labelled(images: Images, memory: int = MEMORY) -> Images:
    """Return the images that have a label, in memory if they are small.

    Args:
        images: single targets are -1 where there is no label.
        memory: bytes of pixels up to which images are read into memory.

    Raises:
        ContractError: no image has a label.
    """
    has_label = images.targets >= 0 if images.targets.ndim == 1 else (images.targets >= 0).all(1)
    if not has_label.any():
        raise ContractError("no image has a label: a repair needs labelled training images")
    rows = np.flatnonzero(has_label)
    if not isinstance(images, ImageSet) and len(rows) * int(np.prod(images.shape)) <= memory:
        return images.take(rows)
    return images if len(rows) == len(images) else part_of(images, rows)


def part_of(images: Images, rows: np.ndarray) -> Images:
    """Return some images of a data set, in memory if the data set is."""
    return images.take(rows) if isinstance(images, ImageSet) else Subset(images, rows)


def hold_out(images: Images, groups: np.ndarray, share: float, seed: int) -> tuple[Images, Images]:
    """Divide images at random into those that stay and those that are held out, stratified by group (N,).

    Raises:
        ContractError: there are fewer than four images.
    """
    stay, held_out = split_rows(np.arange(len(images)), groups, share, seed)
    return part_of(images, stay), part_of(images, held_out)


def split_rows(rows: np.ndarray, groups: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide indices (n,) at random, stratified by group (n,); see `hold_out`."""
    from sklearn.model_selection import train_test_split

    if len(rows) < 4:
        raise ContractError(f"{len(rows)} training images are too few to repair a network: give at least four")
    count = max(1, round(share * len(rows)))
    sizes = np.unique(groups, return_counts=True)[1]
    can_stratify = sizes.min() >= 2 and min(count, len(rows) - count) >= len(sizes)
    stay, held_out = train_test_split(
        rows, test_size=count, random_state=seed, stratify=groups if can_stratify else None
    )
    return np.sort(stay), np.sort(held_out)


def slices(count: int, size: int = BATCH) -> list[np.ndarray]:
    """Return the indices of `count` images in batches of `size`."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]

"""Data sets of picture files: an index says what there is, images are read when they are asked for.

A data set of files is a subclass of `FileDataset` that writes `index()`; which images a split takes, how they are read,
resized and named is the same for all.

Known limits: what a picture shows is no part of `identity()`, so a file that is replaced by another of the same name is
not noticed by a run that is resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, SecretStr

from interp_core.datasets.contract import DatasetConfig
from interp_core.datasets.files.image_set import BATCH, FileImageSet, Item, Preprocessing, Read, try_item
from interp_core.datasets.files.pixels import MOST_PIXELS
from interp_core.datasets.files.resize import Filter, Resize
from interp_core.datasets.files.sampling import check_index, digest, has_evidence, keyed_hash, sample_records, sort_key
from interp_core.datasets.files.workers import Kind, Loader, can_fork, cores
from interp_core.datasets.records import Finding, Index, Record, SplitName
from interp_core.errors import InterpError, UnknownNameError

# Training images that `channel_statistics` looks at.
STATISTICS = 2000
MEGA = 1_000_000


class FileDataset(DatasetConfig):
    """A data set of files under `root`. Subclasses write `index`.

    Fields:
        root: folder as its owners ship it.
        image_size: side of the images in pixels.
        resize: "crop" (shorter side, then the centre), "squash" or "pad".
        crop_pct: share of the shorter side that "crop" keeps.
        interpolation: how pixels are resampled.
        train: most training images; None for all. A smaller number is a sample in the classes' proportions.
        val: most validation images.
        test: most test images.
        targets_explained: names of the classes that are explained where an image may show several; None for all.
        with_evidence: explain only images that have a box or mask for their class.
        hash_ids: name images in results by a keyed hash of their id.
        salt: key of that hash; without it anybody who has the ids can tell which is which.
        upright: turn pictures as their EXIF says; boxes and masks are taken to be of the picture so shown.
        most_pixels: larger pictures are refused as decompression bombs.
        workers: processes that read images; None for one a core, 0 to read in this process.
        memory: megabytes that images read ahead may take.
        seed: of samples and of the order of images.
    """

    root: Path
    image_size: int = Field(224, ge=8)
    resize: Resize = "crop"
    crop_pct: float = Field(1.0, gt=0, le=1)
    interpolation: Filter = "bicubic"
    train: int | None = Field(None, ge=1)
    val: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)
    targets_explained: tuple[str, ...] | None = None
    with_evidence: bool = False
    hash_ids: bool = False
    salt: SecretStr = SecretStr("")
    upright: bool = True
    most_pixels: int = Field(MOST_PIXELS, ge=1)
    workers: int | None = Field(None, ge=0)
    memory: int = Field(256, ge=1)
    seed: int = 0

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which has read no index yet."""
        copy = super().model_copy(update=update, deep=deep)
        for made in ("checked_index", "loader"):
            copy.__dict__.pop(made, None)
        return copy

    def index(self) -> Index:
        """What there is, without opening an image."""
        raise NotImplementedError(f"{type(self).__name__} must define index")

    @cached_property
    def checked_index(self) -> Index:
        """`index()`, made once and checked.

        Raises:
            InterpError: two images have one id, or a class is none of the classes.
        """
        found = self.index()
        check_index(found)
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the target indices."""
        return self.checked_index.classes

    @property
    def multi_label(self) -> bool:
        """Whether an image may show any number of classes."""
        return self.checked_index.multi_label

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the files, and did not stop them from being used."""
        return self.checked_index.findings

    @property
    def preprocessing(self) -> Preprocessing:
        """How image files become arrays."""
        return Preprocessing(
            self.image_size, self.resize, self.crop_pct, self.interpolation, self.upright, self.most_pixels
        )

    @cached_property
    def loader(self) -> Loader[Item, Read]:
        """The workers, which all splits share."""
        kind: Kind = "processes" if can_fork() else "threads"
        window = self.memory * MEGA // (4 * self.image_size**2)  # three channels and the evidence
        workers = cores() if self.workers is None else self.workers
        return Loader(partial(try_item, preprocessing=self.preprocessing), workers, kind, max(1, window))

    def records(self, split: SplitName) -> tuple[Record, ...]:
        """Images of a split: at most as many as asked for, in the order of their hashes."""
        found = self.checked_index.records.get(split, ())
        most: int | None = getattr(self, split)
        return tuple(sample_records(found, len(found) if most is None else most, self.seed))

    def describe_layout(self) -> str:
        """Return a few words on the layout of the folder, for `interp-bench data check`; "" for none."""
        return ""

    def load(self, split: SplitName) -> FileImageSet:
        """The images of one split, read when they are taken.

        Raises:
            InterpError: it has none.
        """
        records = self.records(split)
        if not records:
            raise InterpError(f"{self.name or type(self).__name__}: no {split} images under {self.root}")
        items = [Item(name, name, record, None) for record in records for name in [self.public_id(record.id)]]
        if not self.multi_label:
            targets = np.array([record.targets[0] for record in records], np.int64)
            items = [replace(item, target=int(target)) for item, target in zip(items, targets, strict=True)]
            return self._split_of(items, targets)
        labels = np.zeros((len(records), len(self.classes)), np.float32)
        for row, record in enumerate(records):
            labels[row, list(record.targets)] = 1
        return self._split_of(items, labels)

    def load_explained(self, split: SplitName) -> FileImageSet:
        """What can be explained of a split: images, or pairs (image, class it shows) named "id/class".

        Raises:
            InterpError: nothing is left.
            UnknownNameError: `targets_explained` names no class.
        """
        wanted = self._explained_classes()
        items = [
            Item(f"{name}/{self.classes[target]}" if self.multi_label else name, name, record, target)
            for record in self.records(split)
            for name in [self.public_id(record.id)]
            for target in record.targets
            if target in wanted and (not self.with_evidence or has_evidence(record, target))
        ]
        if not items:
            raise InterpError(f"{self.name}: nothing to explain in split {split}: see targets_explained, with_evidence")
        if self.multi_label:  # else the first image's classes would all come before the second's
            items.sort(key=lambda item: sort_key(item.id, self.seed))
        return self._split_of(items, np.array([item.target for item in items], np.int64))

    def _split_of(self, items: Sequence[Item], targets: np.ndarray) -> FileImageSet:
        return FileImageSet(items, targets, self.image_size, self.loader)

    def _explained_classes(self) -> set[int]:
        if self.targets_explained is None:
            return set(range(len(self.classes)))
        number = {name: i for i, name in enumerate(self.classes)}
        for name in self.targets_explained:
            if name not in number:
                raise UnknownNameError("class", name, number)
        return {number[name] for name in self.targets_explained}

    def public_id(self, name: str) -> str:
        """An id as results show it."""
        if not self.hash_ids:
            return name
        key = hashlib.blake2b(self.salt.get_secret_value().encode()).digest()
        return keyed_hash(name, key).hex()

    def identity(self) -> dict[str, Any]:
        """What decides the arrays, wherever the files lie: parameters, and a hash of what the index says."""
        fields = self.model_dump(mode="json", exclude={"root", "salt", "workers", "memory"})
        return {**fields, "name": self.name, "index": digest(self.checked_index, self.root)}

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of the training images, in [0, 1] units, from a sample of them.

        Raises:
            InterpError: none can be read.
        """
        split, count, total, squares = self.load("train"), 0, np.zeros(3), np.zeros(3)
        chosen = np.arange(min(len(split), STATISTICS))
        for _, part in split.batches(np.array_split(chosen, -(-len(chosen) // BATCH))):
            pixels = part.images.astype(np.float64) / 255
            count += pixels[:, 0].size
            total, squares = total + pixels.sum((0, 2, 3)), squares + (pixels**2).sum((0, 2, 3))
        if not count:
            raise InterpError(f"no training image under {self.root} can be read")
        mean = total / count
        # A data set of one colour has none to divide by.
        std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
        return tuple(mean.tolist()), tuple(std.tolist())

"""Base class of data sets of image files.

A subclass writes `index()`, which lists images, classes and evidence without opening an image. `FileDataset` samples
the splits, reads and resizes images when they are used, and names them in results.

Known limits: pixels are not part of `identity()`. A resumed run does not notice that a file was replaced by another of
the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, SecretStr

from interp_core.datasets.contract import DatasetConfig
from interp_core.datasets.files.image_set import BATCH, FileImageSet, Item, Preprocessing, ReadResult, try_item
from interp_core.datasets.files.images import UnreadableImage, count_frames
from interp_core.datasets.files.paths import relative_id, suffix_of
from interp_core.datasets.files.pixels import MOST_PIXELS
from interp_core.datasets.files.resize import Filter, Resize
from interp_core.datasets.files.sampling import check_index, digest, has_evidence, keyed_hash, sample_records, sort_key
from interp_core.datasets.files.workers import Kind, Loader, can_fork, cores
from interp_core.datasets.records import Finding, Index, Record, SplitName
from interp_core.errors import InterpError, UnknownNameError

# Maximum number of training images that `channel_statistics` reads.
STATISTICS_IMAGES = 2000
BYTES_PER_MEGABYTE = 1_000_000
# DICOM files whose headers are read when the data set is listed, to report several frames.
DICOM_SAMPLE = 128
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ""})


class FileDataset(DatasetConfig):
    """Data set of image files under `root`. Subclasses write `index`.

    Fields:
        root: folder of the data set, in the layout its owners ship it in.
        image_size: side of the images in pixels.
        resize: "crop" (shorter side, then the centre), "squash" or "pad".
        crop_pct: share of the shorter side that "crop" keeps.
        interpolation: filter that resamples pixels.
        train: maximum number of training images; None for all. Fewer are a sample in the proportions of the classes.
        val: maximum number of validation images, likewise.
        test: maximum number of test images, likewise.
        targets_explained: names of the classes that are explained; None for all.
        with_evidence: whether to explain only images that have a box or mask for their class.
        hash_ids: whether results name images by a keyed hash of their id.
        salt: key of that hash. With an empty key, anyone who has the ids can compute the hashes.
        upright: whether to rotate and flip images as their EXIF says; boxes and masks refer to the upright image.
        most_pixels: larger images are refused as decompression bombs.
        workers: number of processes that read images; None for one per core, 0 to read in this process.
        memory: megabytes that images read ahead may take.
        seed: seed of samples and of the order of images.
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
    seed: int = Field(0, ge=0, lt=2**31)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the configuration, without the cached index and loader."""
        copy = super().model_copy(update=update, deep=deep)
        for cached in ("checked_index", "loader"):
            copy.__dict__.pop(cached, None)
        return copy

    def index(self) -> Index:
        """List images, classes and evidence without opening an image."""
        raise NotImplementedError(f"{type(self).__name__} must define index")

    @cached_property
    def checked_index(self) -> Index:
        """The index, made once and checked.

        Raises:
            InterpError: two images have the same id, or a target is not a class.
        """
        index = self.index()
        check_index(index)
        return replace(index, findings=(*index.findings, *_frame_findings(index, self.root)))

    @property
    def indexed(self) -> Index:
        """Return `checked_index` under its older name, which people's scripts still use."""
        return self.checked_index

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
        """Defects of the files that do not prevent their use."""
        return self.checked_index.findings

    @property
    def preprocessing(self) -> Preprocessing:
        """How image files become arrays."""
        return Preprocessing(
            self.image_size, self.resize, self.crop_pct, self.interpolation, self.upright, self.most_pixels
        )

    @cached_property
    def loader(self) -> Loader[Item, ReadResult]:
        """The workers that read images, shared by all splits."""
        kind: Kind = "processes" if can_fork() else "threads"
        window = self.memory * BYTES_PER_MEGABYTE // (4 * self.image_size**2)  # three channels and the evidence
        workers = cores() if self.workers is None else self.workers
        return Loader(partial(try_item, preprocessing=self.preprocessing), workers, kind, max(1, window))

    def records(self, split: SplitName) -> tuple[Record, ...]:
        """Return the records of a split, sampled if the configuration limits their number."""
        records = self.checked_index.records.get(split, ())
        most: int | None = getattr(self, split)
        return tuple(sample_records(records, len(records) if most is None else most, self.seed))

    def describe_layout(self) -> str:
        """Return a few words on the layout of the folder, for `interp-bench data check`; "" for none."""
        return ""

    def load(self, split: SplitName) -> FileImageSet:
        """Return the images of a split, which are read when they are used.

        Raises:
            InterpError: the split is empty.
        """
        records = self.records(split)
        if not records:
            raise InterpError(f"{self.name or type(self).__name__}: no {split} images under {self.root}")
        items = [Item(name, name, record, None) for record in records for name in [self.public_id(record.id)]]
        if not self.multi_label:
            targets = np.array([record.targets[0] for record in records], np.int64)
            items = [replace(item, target=int(target)) for item, target in zip(items, targets, strict=True)]
            return self._image_set(items, targets)
        labels = np.zeros((len(records), len(self.classes)), np.float32)
        for row, record in enumerate(records):
            labels[row, list(record.targets)] = 1
        return self._image_set(items, labels)

    def load_explained(self, split: SplitName) -> FileImageSet:
        """Return the images of a split that can be explained.

        In a multi-label data set these are pairs of an image and a class that it shows, named "id/class".

        Raises:
            InterpError: there is nothing to explain.
            UnknownNameError: a name in `targets_explained` is not a class.
        """
        explained_targets = self._select_targets()
        items = [
            Item(f"{name}/{self.classes[target]}" if self.multi_label else name, name, record, target)
            for record in self.records(split)
            for name in [self.public_id(record.id)]
            for target in record.targets
            if target in explained_targets and (not self.with_evidence or has_evidence(record, target))
        ]
        if not items:
            raise InterpError(f"{self.name}: nothing to explain in split {split}: see targets_explained, with_evidence")
        if self.multi_label:  # so that the classes of one image do not stand together
            items.sort(key=lambda item: sort_key(item.id, self.seed))
        return self._image_set(items, np.array([item.target for item in items], np.int64))

    def _image_set(self, items: Sequence[Item], targets: np.ndarray) -> FileImageSet:
        return FileImageSet(items, targets, self.image_size, self.loader)

    def _select_targets(self) -> set[int]:
        if self.targets_explained is None:
            return set(range(len(self.classes)))
        targets = {name: target for target, name in enumerate(self.classes)}
        for name in self.targets_explained:
            if name not in targets:
                raise UnknownNameError("class", name, targets)
        return {targets[name] for name in self.targets_explained}

    def public_id(self, name: str) -> str:
        """Return an id as results show it."""
        if not self.hash_ids:
            return name
        key = hashlib.blake2b(self.salt.get_secret_value().encode()).digest()
        return keyed_hash(name, key).hex()

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the arrays, wherever the files lie: parameters and a hash of the index."""
        fields = self.model_dump(mode="json", exclude={"root", "salt", "workers", "memory"})
        return {**fields, "name": self.name, "index": digest(self.checked_index, self.root)}

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation per channel of a sample of the training images, in [0, 1] units.

        Raises:
            InterpError: no training image can be read.
        """
        split, count, total, squares = self.load("train"), 0, np.zeros(3), np.zeros(3)
        indices = np.arange(min(len(split), STATISTICS_IMAGES))
        for _, batch in split.batches(np.array_split(indices, -(-len(indices) // BATCH))):
            pixels = batch.images.astype(np.float64) / 255
            count += pixels[:, 0].size
            total, squares = total + pixels.sum((0, 2, 3)), squares + (pixels**2).sum((0, 2, 3))
        if not count:
            raise InterpError(f"no training image under {self.root} can be read")
        mean = total / count
        # Bounded below, since the deviation of a data set of one colour would be 0.
        std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
        return tuple(mean.tolist()), tuple(std.tolist())


def _frame_findings(index: Index, root: Path) -> Iterator[Finding]:
    """Yield a finding for each file of several frames among the DICOM files, of many only among a sample."""
    records = [record for members in index.records.values() for record in members]
    files = [record for record in records if suffix_of(record.path.name) in DICOM_SUFFIXES]
    for record in files[:: max(1, len(files) // DICOM_SAMPLE)]:
        try:
            frames = count_frames(record.path)
        except UnreadableImage:
            continue
        if frames > 1:
            where = relative_id(record.path, root) if record.path.is_relative_to(root) else record.path.name
            yield Finding("several frames", where, f"it holds {frames} frames: the first is read")

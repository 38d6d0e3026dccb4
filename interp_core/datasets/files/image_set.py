"""Images in files, read by workers when they are used, with their evidence masks.

A `FileImageSet` holds records, not pixels. `take` and `batches` leave out images that cannot be read and note the
reasons in `unreadable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from interp_core.datasets.contract import ImageSet
from interp_core.datasets.files.images import UnreadableImage, decode_image
from interp_core.datasets.files.masks import read_evidence
from interp_core.datasets.files.pixels import MOST_PIXELS
from interp_core.datasets.files.resize import Filter, Geometry, Resize, geometry_of
from interp_core.datasets.files.workers import Loader, Lost
from interp_core.datasets.records import MaskFile, Record

# Images that are read together to compute their areas or statistics.
BATCH = 32


@dataclass(frozen=True)
class Item:
    """An image, or one of the classes of an image in a multi-label data set.

    Attributes:
        id: name in results.
        image: name of the image in results; equal to `id` unless the item is one of its classes.
        record: record of the image.
        target: class whose evidence is marked; None for that of all classes it shows.
    """

    id: str
    image: str
    record: Record
    target: int | None


@dataclass(frozen=True)
class Preprocessing:
    """How image files become arrays. It is sent to every worker, so it is small.

    Attributes:
        size: side in pixels.
        resize: see `geometry_of`.
        crop_pct: see `geometry_of`.
        interpolation: filter that resamples pixels.
        upright: whether EXIF is applied.
        most_pixels: larger images are refused.
    """

    size: int
    resize: Resize
    crop_pct: float
    interpolation: Filter
    upright: bool
    most_pixels: int


def read_item(item: Item, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Read the pixels (3, size, size) uint8 and evidence (size, size) bool of an item.

    Raises:
        UnreadableImage: the image, or one of its masks, cannot be read.
    """
    image = decode_image(item.record.path, most_pixels=preprocessing.most_pixels, upright=preprocessing.upright)
    geometry = geometry_of(image.size, preprocessing.size, preprocessing.resize, preprocessing.crop_pct)
    pixels = geometry.resize_image(image, preprocessing.interpolation)
    return pixels, evidence_mask(item, geometry, preprocessing.most_pixels)


def evidence_mask(item: Item, geometry: Geometry, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Return the union (size, size) bool of the boxes and masks for the target of an item.

    Raises:
        UnreadableImage: a mask cannot be read.
    """

    def is_evidence_for_target(target: int | None) -> bool:
        return item.target is None or target is None or target == item.target

    record = item.record
    evidence = geometry.resize_boxes([box for box in record.boxes if is_evidence_for_target(box.target)], record.size)
    for mask in record.masks:
        if is_evidence_for_target(mask.target):
            evidence |= geometry.resize_mask(_read_evidence(mask, geometry.source, most_pixels))
    return evidence


def _read_evidence(mask: MaskFile, size: tuple[int, int], most_pixels: int) -> np.ndarray:
    try:
        return read_evidence(mask, size, most_pixels=most_pixels)
    except UnreadableImage as error:
        raise UnreadableImage(error.path, f"its mask: {error.reason}") from error


# Pixels and evidence, or the reason why they cannot be read.
ReadResult = tuple[np.ndarray, np.ndarray] | str


def try_item(item: Item, preprocessing: Preprocessing) -> ReadResult:
    """Return the result of `read_item`, or the reason why the item cannot be read. Workers call it."""
    try:
        return read_item(item, preprocessing)
    except UnreadableImage as error:
        return error.reason


class FileImageSet:
    """Images in files, read when they are used.

    Args:
        items: what the set holds, in order.
        targets: (N,) int64 classes, or (N, K) float32 of 0 and 1 in a multi-label data set.
        size: side of the images in pixels.
        loader: reader of the items.

    Attributes:
        ids: N stable names.
        shape: (3, H, W) of every image.
        unreadable: reasons by id of the images that could not be read so far.
    """

    def __init__(self, items: Sequence[Item], targets: np.ndarray, size: int, loader: Loader[Item, ReadResult]) -> None:
        self.items, self.targets, self.loader = list(items), targets, loader
        self.ids = [item.id for item in self.items]
        self.shape = (3, size, size)
        self.unreadable: dict[str, str] = {}
        self._areas: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: np.ndarray) -> ImageSet:
        """Return the images at `indices` (n,) int, in that order, without those that cannot be read."""
        return next(self.batches([indices]))[1]

    def batches(self, chosen: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """Yield, for each of `chosen` (n,) int, the indices that could be read (m,) and their images.

        Images of later batches are read ahead.
        """
        batches = [np.asarray(indices, np.int64).tolist() for indices in chosen]
        results = self.loader.results(self.items[i] for i in chain.from_iterable(batches))
        for indices in batches:
            yield self._collect([(i, next(results)) for i in indices])

    def areas(self, indices: np.ndarray) -> np.ndarray:
        """Return the share (n,) of each image that its evidence covers; NaN for images that cannot be read."""
        unknown = np.array([i for i in indices.tolist() if i not in self._areas], np.int64)
        for _ in self.batches(np.array_split(unknown, -(-len(unknown) // BATCH) or 1)):
            pass
        return np.array([self._areas.get(i, np.nan) for i in indices.tolist()])

    def _collect(self, results: Sequence[tuple[int, ReadResult | Lost]]) -> tuple[np.ndarray, ImageSet]:
        """Stack the images that were read, and note areas and the reasons of the others."""
        readable = [(i, result) for i, result in results if isinstance(result, tuple)]
        for i, result in results:
            if not isinstance(result, tuple):
                self.unreadable[self.items[i].image] = result.reason if isinstance(result, Lost) else result
        indices = np.array([i for i, _ in readable], np.int64)
        images = np.empty((len(readable), *self.shape), np.uint8)
        masks = np.empty((len(readable), 1, *self.shape[1:]), bool)
        for row, (i, (image, mask)) in enumerate(readable):
            images[row], masks[row, 0] = image, mask
            self._areas[i] = float(mask.mean())
        return indices, ImageSet(images, self.targets[indices], masks, [self.ids[i] for i in indices.tolist()])

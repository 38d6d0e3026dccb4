"""Images of files as the rest of the project sees them: read by workers when they are taken, with their evidence.

A `FileImageSet` holds records, not pixels. `take` and `batches` leave out images that cannot be read and note the
reasons in `unreadable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from interp_core.datasets.contract import ImageSet
from interp_core.datasets.files.images import UnreadableImage, decode_image, read_mask
from interp_core.datasets.files.pixels import MOST_PIXELS
from interp_core.datasets.files.resize import Filter, Geometry, Resize, geometry_of
from interp_core.datasets.files.workers import Loader, Lost
from interp_core.datasets.records import MaskFile, Record

# Images whose areas are found at once.
BATCH = 32


@dataclass(frozen=True)
class Item:
    """An image, and the class it is asked about where an image may show several.

    Attributes:
        id: name in results.
        image: name of the image in results, where the item is one of its classes.
        record: of the image.
        target: class whose evidence is wanted; None for that of all classes it shows.
    """

    id: str
    image: str
    record: Record
    target: int | None


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become arrays; small, since every worker gets one.

    Attributes:
        size: side in pixels.
        resize: see `geometry_of`.
        crop_pct: see `geometry_of`.
        interpolation: how pixels are resampled.
        upright: whether EXIF is followed.
        most_pixels: larger pictures are refused.
    """

    size: int
    resize: Resize
    crop_pct: float
    interpolation: Filter
    upright: bool
    most_pixels: int


def read_item(item: Item, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (3, size, size) uint8 and evidence (size, size) bool of an item.

    Raises:
        UnreadableImage: the picture, or one of its masks, cannot be read.
    """
    image = decode_image(item.record.path, most_pixels=preprocessing.most_pixels, upright=preprocessing.upright)
    places = geometry_of(image.size, preprocessing.size, preprocessing.resize, preprocessing.crop_pct)
    return places.picture(image, preprocessing.interpolation), evidence_mask(item, places, preprocessing.most_pixels)


def evidence_mask(item: Item, places: Geometry, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Union of the boxes and masks (size, size) bool that say where an item's target is.

    Raises:
        UnreadableImage: a mask cannot be read.
    """

    def wanted(target: int | None) -> bool:
        return item.target is None or target is None or target == item.target

    record = item.record
    out = places.boxes([box for box in record.boxes if wanted(box.target)], record.size)
    for mask in record.masks:
        if wanted(mask.target):
            values = _labels(mask, most_pixels)
            out |= places.mask(values > 0 if mask.values is None else np.isin(values, mask.values))
    return out


def _labels(mask: MaskFile, most_pixels: int) -> np.ndarray:
    try:
        return read_mask(mask.path, most_pixels=most_pixels)
    except UnreadableImage as error:
        raise UnreadableImage(error.path, f"its mask: {error.reason}") from error


Read = tuple[np.ndarray, np.ndarray] | str


def try_item(item: Item, preprocessing: Preprocessing) -> Read:
    """What `read_item` gives, or the reason why it cannot be read; called in workers."""
    try:
        return read_item(item, preprocessing)
    except UnreadableImage as error:
        return error.reason


class FileImageSet:
    """Images of one split, read when they are taken.

    Args:
        items: what there is, in order.
        targets: (N,) int64 classes, or (N, K) float32 of 0 and 1 where an image may show several.
        size: side of the images in pixels.
        loader: reads items.

    Attributes:
        ids: N stable names.
        shape: (3, H, W) of every image.
        unreadable: ids of images that could not be read so far, with the reason.
    """

    def __init__(self, items: Sequence[Item], targets: np.ndarray, size: int, loader: Loader[Item, Read]) -> None:
        self.items, self.targets, self.loader = list(items), targets, loader
        self.ids = [item.id for item in self.items]
        self.shape = (3, size, size)
        self.unreadable: dict[str, str] = {}
        self._areas: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: np.ndarray) -> ImageSet:
        """The images at `indices` (n,) int, in that order; those that cannot be read are left out."""
        return next(self.batches([indices]))[1]

    def batches(self, chosen: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ImageSet]]:
        """For each of `chosen` (n,) int the indices that could be read (m,), and their images; read ahead."""
        parts = [np.asarray(indices, np.int64).tolist() for indices in chosen]
        results = self.loader.results(self.items[i] for i in chain.from_iterable(parts))
        for indices in parts:
            yield self._split([(i, next(results)) for i in indices])

    def areas(self, indices: np.ndarray) -> np.ndarray:
        """Share (n,) of each image that its evidence covers; NaN where it cannot be read."""
        unknown = np.array([i for i in indices.tolist() if i not in self._areas], np.int64)
        for _ in self.batches(np.array_split(unknown, -(-len(unknown) // BATCH) or 1)):
            pass
        return np.array([self._areas.get(i, np.nan) for i in indices.tolist()])

    def _split(self, found: Sequence[tuple[int, Read | Lost]]) -> tuple[np.ndarray, ImageSet]:
        read = [(i, result) for i, result in found if isinstance(result, tuple)]
        for i, result in found:
            if not isinstance(result, tuple):
                self.unreadable[self.items[i].image] = result.reason if isinstance(result, Lost) else result
        kept = np.array([i for i, _ in read], np.int64)
        images, masks = np.empty((len(read), *self.shape), np.uint8), np.empty((len(read), 1, *self.shape[1:]), bool)
        for row, (i, (image, mask)) in enumerate(read):
            images[row], masks[row, 0] = image, mask
            self._areas[i] = float(mask.mean())
        return kept, ImageSet(images, self.targets[kept], masks, [self.ids[i] for i in kept.tolist()])

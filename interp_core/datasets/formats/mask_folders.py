"""Tell a folder of masks from a class that bears the same name.

A mask has few grey values or colours and usually the name of an image. A face data set may as well have a class "mask".
The content of a few files decides, and where that is not clear their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from interp_core.datasets.files.images import UnreadableImage, decode_image, read_mask
from interp_core.datasets.files.paths import walk_images

MASK_FOLDERS = ("masks", "mask", "segmentations", "trimaps")
# Names that mark evidence only where the content says so, since they are as usual for classes or label files.
FURTHER_MASK_FOLDERS = ("segmentation", "ground_truth", "groundtruth", "gt", "masks_gt", "mask_images", "seg_masks")
SAMPLES = 3
MAX_VALUES = 32
# Bins of 16 grey values. JPEG spreads the two values of a mask over their neighbours.
BIN, TOP_BINS, TOP_SHARE = 16, 3, 0.9
MASK_ENDINGS = ("_mask", "-mask", " mask", ".mask", "_masks", "_segmentation", "_seg", "_gt", "_groundtruth", "_label")


def is_mask_folder(folder: Path, siblings: Iterable[Path]) -> bool:
    """Return whether a folder called like masks holds the masks of the images in other folders.

    Args:
        folder: the folder, named in `MASK_FOLDERS` or `FURTHER_MASK_FOLDERS`.
        siblings: the folders that may hold the images.
    """
    paths = _sample([folder])
    looks = [look for path in paths if (look := _has_few_values(path)) is not None]
    is_usual_name = folder.name.lower() in MASK_FOLDERS
    if not looks:
        return is_usual_name
    siblings = list(siblings)
    if not all(looks):
        return is_usual_name and _is_grey(paths) and not _is_grey(_sample(siblings)) and shares_names(folder, siblings)
    if shares_names(folder, siblings):
        return True
    return is_usual_name and not all(_has_few_values(path) for path in _sample(siblings))


def shares_names(folder: Path, siblings: Sequence[Path]) -> bool:
    """Return whether a file of the folder has the name of an image in the other folders."""
    names = {without_mask_ending(path.stem) for path in walk_images(folder, [])}
    return any(path.stem in names for sibling in siblings for path in walk_images(sibling, []))


def masks_beside(paths: Sequence[Path]) -> dict[Path, Path]:
    """Return the masks among images of classes, such as 1_mask.png beside 1.png, with their images.

    Returns:
        Image by mask; none where the first candidates do not look like masks.
    """
    names = {(path.parent, path.stem): path for path in paths}
    pairs = {
        path: image
        for path in paths
        if path.stem.lower().endswith(("_mask", "-mask", "_segmentation"))
        and (image := names.get((path.parent, without_mask_ending(path.stem)))) is not None
    }
    return pairs if pairs and all(map(_has_few_values, list(pairs)[:SAMPLES])) else {}


def without_mask_ending(stem: str) -> str:
    """Return the name of the image that a mask called such as "a_mask" or "mask_a" belongs to."""
    lower = stem.lower()
    for ending in MASK_ENDINGS:
        if lower.endswith(ending) and len(stem) > len(ending):
            return stem[: -len(ending)]
    return stem[5:] if lower.startswith(("mask_", "mask-")) and len(stem) > 5 else stem


def _sample(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in islice(folders, SAMPLES) for path in islice(walk_images(folder, []), SAMPLES)]


def _has_few_values(path: Path) -> bool | None:
    """Return whether an image has so few values that it is a mask; None if it cannot be read."""
    try:
        values = read_mask(path)
    except UnreadableImage:
        return None
    numbers = np.unique(values)
    if len(numbers) <= MAX_VALUES:
        return True
    if values.max() > 255:
        return False
    counts = np.sort(np.bincount(values.ravel() // BIN))
    return bool(counts[-TOP_BINS:].sum() >= TOP_SHARE * values.size)


def _is_grey(paths: Sequence[Path]) -> bool:
    """Return whether all images that can be read are grey."""
    for path in paths:
        try:
            pixels = np.asarray(decode_image(path).convert("RGB"))
        except UnreadableImage:
            continue
        if (pixels != pixels[..., :1]).any():
            return False
    return True

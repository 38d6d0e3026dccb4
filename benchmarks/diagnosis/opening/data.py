"""Open the images under diagnosis from what a user types: a registered data set or a folder, and a split.

A folder in which no layout finds a class is opened without labels: all its images, whatever the split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.config.choice import DatasetChoice
from benchmarks.config.errors import ConfigError
from benchmarks.config.load import parse
from benchmarks.config.overrides import parse_assignment
from benchmarks.diagnosis.opening.choices import SplitChoice
from benchmarks.diagnosis.opening.unlabelled import UnlabelledFolder, without_labels
from benchmarks.diagnosis.properties import perceptual_hash
from benchmarks.store.provenance import digest
from interp_core.datasets import SPLITS, DatasetConfig, FileImageSet, Images, ImageSet, SplitName, datasets
from interp_core.datasets.files.paths import MissingFile
from interp_core.datasets.folder import Folder
from interp_core.errors import InterpError, UnknownNameError

BATCH = 64


@dataclass(frozen=True)
class DataOptions:
    """What a user says about the images.

    Attributes:
        data: name of a registered data set, or a folder of images.
        root: folder of a registered data set of files.
        assignments: parameters of the data set, "image_size=128" each.
        split: a split, or all of them.
        limit: maximum number of images, a sample in the proportions of the classes where the data set can draw one.
    """

    data: str
    root: Path | None = None
    assignments: tuple[str, ...] = ()
    split: SplitChoice = SplitChoice.val
    limit: int | None = None


def open_dataset(options: DataOptions) -> DatasetConfig:
    """Build the data set.

    Raises:
        ConfigError: a parameter is unknown, missing or wrong.
        UnknownNameError: there is no such data set and no such folder.
        InterpError: a folder cannot be listed.
    """
    parameters = {key.removeprefix("dataset."): value for key, value in map(parse_assignment, options.assignments)}
    name, root = options.data, options.root
    if name not in datasets:
        if not Path(name).is_dir():
            raise UnknownNameError("data set or folder", name, datasets)
        if root is not None:
            raise ConfigError(f"--data {name} is a folder: leave --root out")
        name, root = "folder", Path(name)
    if root is not None:
        parameters |= {"root": root}
    if "root" in datasets[name].model_fields and "root" not in parameters:
        raise ConfigError(f"data set {name} lies in files: give --root DIR")
    if (
        options.limit is not None
        and options.split is not SplitChoice.all
        and options.split.value in datasets[name].model_fields
    ):
        parameters.setdefault(options.split.value, options.limit)
    dataset = cast(DatasetConfig, parse(DatasetChoice, {**parameters, "name": name}, f"data set {name}").build())
    return _list_folder(dataset) if isinstance(dataset, Folder) else dataset


def _list_folder(dataset: Folder) -> Folder | UnlabelledFolder:
    """List a folder, and go on without labels where it has none."""
    try:
        _ = dataset.checked_index
    except MissingFile as error:
        return without_labels(dataset, error)
    return dataset


def open_images(dataset: DatasetConfig, options: DataOptions) -> Images:
    """Return the images of the split.

    Raises:
        InterpError: the split is empty.
    """
    images = _load_split(dataset, options.split)
    if not len(images):
        raise InterpError(f"data set {options.data} has no {options.split} images: choose another --split")
    if options.limit is None or len(images) <= options.limit:
        return images
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[: options.limit])
    return choose(images, chosen)


def _load_split(dataset: DatasetConfig, split: SplitChoice) -> Images:
    if isinstance(dataset, UnlabelledFolder):
        return dataset.load()
    return load_all(dataset) if split is SplitChoice.all else dataset.load(cast(SplitName, split.value))


def load_all(dataset: DatasetConfig) -> Images:
    """Return the images of all splits together.

    Raises:
        InterpError: all splits are empty.
    """
    parts, reason = [], InterpError("the data set is empty")
    for split in SPLITS:
        try:
            parts.append(dataset.load(split))
        except InterpError as error:
            reason = error
    if not parts:
        raise reason
    targets = np.concatenate([part.targets for part in parts])
    if all(isinstance(part, FileImageSet) for part in parts):
        files = cast(list[FileImageSet], parts)
        return FileImageSet(
            [item for part in files for item in part.items], targets, files[0].shape[-1], files[0].loader
        )
    sets = [part.take(np.arange(len(part))) for part in parts]
    ids = [name for part in sets for name in part.ids]
    return ImageSet(np.concatenate([s.images for s in sets]), targets, np.concatenate([s.masks for s in sets]), ids)


def choose(images: Images, indices: np.ndarray) -> Images:
    """Return the images at indices (n,) int, still unread where they lie in files."""
    if isinstance(images, FileImageSet):
        items = [images.items[i] for i in indices]
        return FileImageSet(items, images.targets[indices], images.shape[-1], images.loader)
    return images.take(indices)


def hash_images(images: Images, report: Callable[[int, int], None] | None = None) -> tuple[list[str], np.ndarray]:
    """Compute perceptual hashes of the images that can be read; see `properties.perceptual_hash`.

    Args:
        images: one split.
        report: called with the number of images done and of all.

    Returns:
        Ids, and hashes (N,) uint64.
    """
    ids: list[str] = []
    hashes = [np.zeros(0, np.uint64)]
    parts = np.array_split(np.arange(len(images)), max(1, -(-len(images) // BATCH)))
    for number, (_, batch) in enumerate(images.batches(parts)):
        ids += batch.ids
        hashes += [perceptual_hash(batch.images)] if len(batch) else []
        if report is not None:
            report(int(parts[number][-1]) + 1, len(images))
    return ids, np.concatenate(hashes)


def describe_data(options: DataOptions, dataset: DatasetConfig) -> dict[str, Any]:
    """Return name, split and digest of the images, and what opens them again; see `data_options`."""
    root = None if options.root is None else str(options.root)
    return {
        "name": Path(options.data).name or options.data,
        "split": options.split.value,
        "digest": digest(dataset.identity(), options.split.value, options.limit),
        "options": {
            "data": options.data,
            "root": root,
            "assignments": list(options.assignments),
            "split": options.split.value,
            "limit": options.limit,
        },
    }


def data_options(description: dict[str, Any]) -> DataOptions:
    """Return the options in a description of `describe_data`.

    Raises:
        ConfigError: the diagnosis did not come from the command line.
    """
    stored = description.get("options")
    if not isinstance(stored, dict):
        raise ConfigError("the findings do not say how their images are opened: give --data")
    root = stored["root"]
    return DataOptions(
        stored["data"],
        None if root is None else Path(root),
        tuple(stored["assignments"]),
        SplitChoice(stored["split"]),
        stored["limit"],
    )

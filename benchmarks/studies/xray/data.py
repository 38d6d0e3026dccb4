"""The chest X-rays of a small medical study: in memory, with the person behind each, nobody in two parts of a fold.

RSNA names files by what it calls a patient, one image each; the images come from NIH ChestX-ray14, where a person may
have many. Where a table `source.csv` with the columns patientId and nih_image lies beside the images, persons are those
of NIH (the number before the underscore); without it a file counts as a person, as everywhere else in the project.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp_core.datasets import SPLITS, FileDataset, datasets
from interp_core.errors import ContractError

SOURCE = "source.csv"


@dataclass(frozen=True)
class Xrays:
    """Images with what is known of them.

    Attributes:
        images: (N, 3, H, W) in [0, 1].
        targets: (N,) int64, 1 for Lung Opacity.
        masks: (N, 1, H, W) bool, the radiologists' boxes.
        ids: N names that tell nobody who it is.
        persons: (N,) numbers of the persons, from 0.
    """

    images: Tensor
    targets: Tensor
    masks: Tensor
    ids: list[str]
    persons: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Fold:
    """Indices of images to train on, to stop and choose by, and to judge on."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def load(root: Path, size: int = 64) -> Xrays:
    """All labelled images of a folder in RSNA's layout.

    Args:
        root: the folder.
        size: side in pixels.

    Raises:
        InterpError: files are missing or are no tables.
    """
    dataset = datasets["rsna"](root=root, image_size=size, workers=0)  # type: ignore[call-arg]
    assert isinstance(dataset, FileDataset)
    splits = [dataset.load(name) for name in SPLITS if dataset.checked_index.records.get(name)]
    parts = [split.take(np.arange(len(split))) for split in splits]
    kept = [item.record.group for split in splits for item in split.items if item.image not in split.unreadable]
    return Xrays(
        torch.from_numpy(np.concatenate([part.images for part in parts])).float() / 255,
        torch.from_numpy(np.concatenate([part.targets for part in parts])),
        torch.from_numpy(np.concatenate([part.masks for part in parts])),
        [name for part in parts for name in part.ids],
        persons_of(root, kept),
    )


def persons_of(root: Path, files: Sequence[str]) -> np.ndarray:
    """The number (N,) of the person behind each file, by the order in which persons come."""
    path = root / SOURCE
    names = list(files)
    if path.is_file():
        table = pd.read_csv(path, dtype=str).set_index("patientId")["nih_image"].str.partition("_")[0]
        names = [table.get(name, name) for name in names]
    return pd.factorize(np.array(names))[0]


def folds(targets: np.ndarray, groups: np.ndarray, count: int, seed: int) -> Iterator[Fold]:
    """Folds in which each image is tested once, no group is in two parts, and classes are spread as evenly as goes.

    Of what is not tested, a fifth is kept for validation.

    Args:
        targets: (N,) classes.
        groups: (N,) what must not be torn apart.
        count: of folds, at least 2.
        seed: of the division.

    Raises:
        ContractError: fewer groups with a positive image than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if len(np.unique(groups[targets == 1])) < count:
        raise ContractError(f"{count} folds need as many persons with a positive image: give fewer folds")
    for rest, test in StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(targets, targets, groups):
        inner = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        train, val = next(inner.split(rest, targets[rest], groups[rest]))
        yield Fold(rest[train], rest[val], test)


def with_boxes(xrays: Xrays, train: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions in `train` of up to `count` positive images that give boxes away, of as many persons as can be."""
    places = np.flatnonzero(xrays.masks[train].flatten(1).any(1).numpy())
    places = np.random.default_rng(seed).permutation(places)
    turn = pd.Series(xrays.persons[train][places]).groupby(xrays.persons[train][places]).cumcount().to_numpy()
    return np.sort(places[np.argsort(turn, kind="stable")][:count])

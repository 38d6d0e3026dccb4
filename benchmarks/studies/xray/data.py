"""Load the chest X-rays of the study with their persons, and divide them into folds by person.

RSNA names each file by a patient, one image each. The images come from NIH ChestX-ray14, where a person may have many.
If a table `source.csv` with the columns patientId and nih_image lies beside the images, persons are those of NIH (the
number before the underscore). Without it each file counts as a person, as in the rest of the project.
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
    """Images in memory with targets, boxes and persons.

    Attributes:
        images: (N, 3, H, W) in [0, 1].
        targets: (N,) int64, 1 for Lung Opacity.
        masks: (N, 1, H, W) bool, the radiologists' boxes.
        ids: N names that identify no person.
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
    """Indices of images to train on, to validate on, and to evaluate on."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def load_xrays(root: Path, size: int = 64) -> Xrays:
    """Load all labelled images of a folder in RSNA's layout.

    Args:
        root: the folder.
        size: side in pixels.

    Raises:
        InterpError: files are missing or cannot be read.
    """
    dataset = datasets["rsna"](root=root, image_size=size, workers=0)  # type: ignore[call-arg]
    assert isinstance(dataset, FileDataset)
    splits = [dataset.load(name) for name in SPLITS if dataset.checked_index.records.get(name)]
    batches = [split.take(np.arange(len(split))) for split in splits]
    files = [item.record.group for split in splits for item in split.items if item.image not in split.unreadable]
    return Xrays(
        torch.from_numpy(np.concatenate([batch.images for batch in batches])).float() / 255,
        torch.from_numpy(np.concatenate([batch.targets for batch in batches])),
        torch.from_numpy(np.concatenate([batch.masks for batch in batches])),
        [name for batch in batches for name in batch.ids],
        persons_of(root, files),
    )


def persons_of(root: Path, files: Sequence[str]) -> np.ndarray:
    """Number the persons (N,) of the files in order of appearance."""
    path = root / SOURCE
    names = list(files)
    if path.is_file():
        table = pd.read_csv(path, dtype=str).set_index("patientId")["nih_image"].str.partition("_")[0]
        names = [table.get(name, name) for name in names]
    return pd.factorize(np.array(names))[0]


def divide(targets: np.ndarray, groups: np.ndarray, count: int, seed: int) -> Iterator[Fold]:
    """Divide images into folds so that each is tested once and no group is in two parts of a fold.

    Classes are spread as evenly as possible. A fifth of the images that are not tested is for validation.

    Args:
        targets: (N,) classes.
        groups: (N,) persons, or files; images of a group stay together.
        count: of folds, at least 2.
        seed: of the division.

    Raises:
        ContractError: fewer groups with a positive image than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if len(np.unique(groups[targets == 1])) < count:
        raise ContractError(f"{count} folds need as many persons with a positive image: give fewer folds")
    for others, test in StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(targets, targets, groups):
        inner = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        train, val = next(inner.split(others, targets[others], groups[others]))
        yield Fold(others[train], others[val], test)


def sample_boxed(xrays: Xrays, train: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw up to `count` images with boxes from as many persons as possible; return positions in `train`."""
    positions = np.flatnonzero(xrays.masks[train].flatten(1).any(1).numpy())
    positions = np.random.default_rng(seed).permutation(positions)
    persons = xrays.persons[train][positions]
    turn = pd.Series(persons).groupby(persons).cumcount().to_numpy()
    return np.sort(positions[np.argsort(turn, kind="stable")][:count])

"""Data with a shortcut: images whose corner tag gives the class away in training and is random in test.

`digits` has its tag from the data set itself (`DigitsInScenes(confounded=True)`). `tinyimagenet20`, real photographs
with boxes, gets one painted on: a square in a random corner, one of 20 patterns (ten colours, plain and chequered with
black). Each comes with the same images without a tag.

Limits: the tag is small and always in a corner; nothing is said about shortcuts that lie on the object.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from interp_core.datasets import Folder
from interp_core.datasets.contract import ImageSet
from interp_core.datasets.files.archives import unpack
from interp_core.datasets.files.sampling import rank_in_class
from interp_core.datasets.records import SPLITS, SplitName
from interp_core.datasets.synthetic.digits_in_scenes import TAG_COLOURS, TAG_SHARE, DigitsInScenes
from interp_core.errors import ContractError
from interp_core.knowledge.backgrounds import fill

CHEQUER = 4  # blocks along a side of a chequered tag
# Learned in a minute on one core: no distractors, a weaker background. Easier still, and nobody follows the tag.
EASY = {"digit_scale": (0.4, 0.52), "distractors": 0, "background": 0.5}


@dataclass(frozen=True)
class Images:
    """Images of one split, as a network takes them.

    Attributes:
        images: (N, 3, H, W) float, normalised.
        targets: (N,) int64.
        masks: (N, 1, H, W) bool, where the object (or its box) lies.
        tags: (N, 1, H, W) bool, where the tag lies; all False without one.
        told: (N,) int64, the class that the tag speaks for; -1 without one.
    """

    images: Tensor
    targets: Tensor
    masks: Tensor
    tags: Tensor
    told: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor) -> Images:
        """The images of these rows (n,)."""
        return Images(*(values[rows] for values in vars(self).values()))

    def hidden(self) -> Tensor:
        """The images with their tags filled from what is around them, (N, 3, H, W)."""
        parts = zip(self.images.split(256), self.tags.split(256), strict=True)
        return torch.cat([fill(images, 1 - tags.float()) for images, tags in parts])


@dataclass(frozen=True)
class Material:
    """One data set in one form, tagged or clean.

    Attributes:
        classes: K.
        parts: "train", "val", "test" with random tags in either form, and "clean", the test images without tags.
    """

    classes: int
    parts: Mapping[str, Images]


def digits(train: int, val: int, test: int, *, size: int = 64) -> tuple[Material, Material]:
    """Digits in scenes, tagged and clean.

    Args:
        train: number of training images.
        val: number of validation images.
        test: number of test images.
        size: side of the images in pixels.
    """
    given = {"image_size": size, "train": train, "val": val, "test": test, **EASY}
    made = []
    for confounded in (True, False):
        config = DigitsInScenes.model_validate({**given, "confounded": confounded})
        made.append({split: config.load(split) for split in SPLITS})
    told = {split: told_by(part.images, part.regions["tag"], TAG_COLOURS) for split, part in made[0].items()}
    return _materials(made[0], made[1], told, len(TAG_COLOURS))


def tiny(root: Path, train: int, val: int, test: int) -> tuple[Material, Material]:
    """Photographs of 20 classes with boxes, tagged and clean.

    Args:
        root: the folder `tinyimagenet20`, or the archive of it.
        train: number of training images, evenly of all classes.
        val: number of validation images.
        test: number of test images.

    Raises:
        ContractError: there is no such file or folder.
    """
    if not root.exists():
        raise ContractError(f"{root} is not there: give --root the folder tinyimagenet20 or its archive")
    with tempfile.TemporaryDirectory() as folder:
        if root.is_file():
            unpack(root, Path(folder))
            root = Path(folder) / "tinyimagenet20"
        data = Folder(root=root, inclusive=True, image_size=64)
        counts = {"train": train, "val": val, "test": test}
        clean: dict[SplitName, ImageSet] = {}
        for split in SPLITS:
            images = data.load(split)
            rows = evenly(torch.from_numpy(np.asarray(images.targets)), counts[split], seed=0)
            clean[split] = images.take(rows.numpy())
    classes = len(data.classes)
    tagged: dict[SplitName, ImageSet] = {}
    told: dict[SplitName, np.ndarray] = {}
    for number, (split, part) in enumerate(clean.items()):
        rng = np.random.default_rng([number, 20])
        told[split] = rng.integers(0, classes, len(part)) if split == "test" else part.targets
        painted, tags = tag_on(part.images, told[split], rng)
        tagged[split] = ImageSet(painted, part.targets, part.masks, part.ids, {"tag": tags})
    return _materials(tagged, clean, told, classes)


def evenly(targets: Tensor, count: int, seed: int) -> Tensor:
    """Indices (n,) of about `count` images, at least one, as evenly of all classes as can be, in ascending order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)
    rank = torch.zeros(len(targets), dtype=torch.float64)
    rank[order] = torch.from_numpy(rank_in_class(targets[order].numpy())).double()
    # Among the images of one rank, which classes come first is by chance.
    rank += torch.rand(len(targets), generator=generator, dtype=torch.float64)
    return rank.argsort()[: max(1, count)].sort().values


def tag_on(images: np.ndarray, told: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint a tag into one corner of each image.

    Args:
        images: (N, 3, H, W) uint8; not changed.
        told: (N,) classes that the tags speak for, below 20.
        rng: of the corners.

    Returns:
        (N, 3, H, W) uint8 images and (N, 1, H, W) bool masks of their tags.
    """
    n, _, height, width = images.shape
    side = min(height, width) // TAG_SHARE
    corner = rng.integers(0, 2, (n, 2)) * np.array([height - side, width - side])
    pixels = corner[:, :, None] + np.arange(side)
    at = (np.arange(n)[:, None, None], pixels[:, 0, :, None], pixels[:, 1, None, :])
    painted, tags = images.copy(), np.zeros((n, 1, height, width), bool)
    painted[at[0], :, at[1], at[2]] = np.stack([pattern(int(k), side) for k in told]).reshape(n, side, side, 3)
    tags[at[0], 0, at[1], at[2]] = True
    return painted, tags


def pattern(told: int, side: int) -> np.ndarray:
    """The tag of a class below 20, (side, side, 3) uint8: ten colours, plain and then chequered with black."""
    painted = np.broadcast_to(TAG_COLOURS[told % len(TAG_COLOURS)], (side, side, 3)).copy()
    if told >= len(TAG_COLOURS):
        block = np.arange(side) * CHEQUER // side
        painted[(block[:, None] + block[None, :]) % 2 == 1] = 0
    return painted


def told_by(images: np.ndarray, tags: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The class (N,) whose colour the tag has, from images (N, 3, H, W), tags (N, 1, H, W) and colours (K, 3)."""
    found = np.stack([image[:, tag[0]][:, 0] for image, tag in zip(images, tags, strict=True)])
    return np.abs(found[:, None].astype(np.int64) - colours[None]).sum(2).argmin(1)


def _materials(
    tagged: Mapping[SplitName, ImageSet],
    clean: Mapping[SplitName, ImageSet],
    told: Mapping[SplitName, np.ndarray],
    classes: int,
) -> tuple[Material, Material]:
    """Both forms, each normalised by its own training images."""
    train = tagged["train"]
    own: dict[str, Images] = {split: _images(part, told[split], train) for split, part in tagged.items()}
    own["clean"] = _images(clean["test"], None, train)
    train = clean["train"]
    other: dict[str, Images] = {split: _images(part, None, train) for split, part in clean.items()}
    other["clean"] = other["test"]
    other["test"] = _images(tagged["test"], told["test"], train)
    return Material(classes, own), Material(classes, other)


def _images(part: ImageSet, told: np.ndarray | None, train: ImageSet) -> Images:
    pixels = torch.from_numpy(part.images).float() / 255
    known = torch.from_numpy(train.images).float() / 255
    mean, std = known.mean((0, 2, 3)), known.std((0, 2, 3))
    targets, masks = torch.from_numpy(part.targets).long(), torch.from_numpy(part.masks)
    tags = torch.from_numpy(part.regions["tag"]) if "tag" in part.regions else torch.zeros_like(masks)
    spoken = torch.full_like(targets, -1) if told is None else torch.from_numpy(np.asarray(told)).long()
    return Images((pixels - mean[:, None, None]) / std[:, None, None], targets, masks, tags, spoken)

"""Load images with a shortcut: a corner tag that gives the class away in training and is random in test.

`digits` gets its tag from the data set itself (`DigitsInScenes(confounded=True)`). On the photographs of
`tinyimagenet20` a tag is painted: a square in a random corner with one of 20 patterns (ten colours, plain and chequered
with black). Each comes with the same images without a tag.

Known limit: the tag is small and always in a corner. Shortcuts on the object are not studied.
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
from interp_core.datasets.synthetic.cues import paint_squares
from interp_core.datasets.synthetic.digits_in_scenes import TAG_COLOURS, TAG_SHARE, DigitsInScenes
from interp_core.errors import ContractError
from interp_core.knowledge.backgrounds import fill

CHEQUER = 4  # blocks along a side of a chequered tag
# Learned in a minute on one core: no distractors, a weaker background. On easier images no network follows the tag.
EASY = {"digit_scale": (0.4, 0.52), "distractors": 0, "background": 0.5}


@dataclass(frozen=True)
class TaggedImages:
    """Images of one split, as a network takes them.

    Attributes:
        images: (N, 3, H, W) float, normalised.
        targets: (N,) int64.
        masks: (N, 1, H, W) bool, of the object or its box.
        tags: (N, 1, H, W) bool, of the tag; all False without one.
        tag_classes: (N,) int64, the class of the tag; -1 without one.
    """

    images: Tensor
    targets: Tensor
    masks: Tensor
    tags: Tensor
    tag_classes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor) -> TaggedImages:
        """Return the images of these rows (n,)."""
        return TaggedImages(*(values[rows] for values in vars(self).values()))

    def without_tags(self) -> Tensor:
        """Return the images (N, 3, H, W) with their tags filled from their surroundings."""
        batches = zip(self.images.split(256), self.tags.split(256), strict=True)
        return torch.cat([fill(images, 1 - tags.float()) for images, tags in batches])


@dataclass(frozen=True)
class TaggedData:
    """One data set in one form, tagged or clean.

    Attributes:
        classes: K.
        splits: "train", "val", "test" with random tags in both forms, and "clean", the test images without tags.
    """

    classes: int
    splits: Mapping[str, TaggedImages]


def load_digits(train: int, val: int, test: int, *, size: int = 64) -> tuple[TaggedData, TaggedData]:
    """Load digits in scenes, tagged and clean.

    Args:
        train: number of training images.
        val: number of validation images.
        test: number of test images.
        size: side of the images in pixels.
    """
    settings = {"image_size": size, "train": train, "val": val, "test": test, **EASY}
    tagged, clean = (
        {split: config.load(split) for split in SPLITS}
        for config in (DigitsInScenes.model_validate({**settings, "confounded": tag}) for tag in (True, False))
    )
    tag_classes = {
        split: classes_of_tags(images.images, images.regions["tag"], TAG_COLOURS) for split, images in tagged.items()
    }
    return _normalise_forms(tagged, clean, tag_classes, len(TAG_COLOURS))


def load_tiny(root: Path, train: int, val: int, test: int) -> tuple[TaggedData, TaggedData]:
    """Load photographs of 20 classes with boxes, tagged and clean.

    Args:
        root: the folder `tinyimagenet20`, or the archive of it.
        train: number of training images, evenly from all classes.
        val: number of validation images.
        test: number of test images.

    Raises:
        ContractError: there is no such file or folder.
    """
    if not root.exists():
        raise ContractError(f"{root} does not exist: give --root the folder tinyimagenet20 or its archive")
    with tempfile.TemporaryDirectory() as folder:
        if root.is_file():
            unpack(root, Path(folder))
            root = Path(folder) / "tinyimagenet20"
        data = Folder(root=root, inclusive=True, image_size=64)
        counts = {"train": train, "val": val, "test": test}
        clean: dict[SplitName, ImageSet] = {}
        for split in SPLITS:
            pictures = data.load(split)
            rows = sample_evenly(torch.from_numpy(np.asarray(pictures.targets)), counts[split], seed=0)
            clean[split] = pictures.take(rows.numpy())
    classes = len(data.classes)
    tagged: dict[SplitName, ImageSet] = {}
    tag_classes: dict[SplitName, np.ndarray] = {}
    for number, (split, images) in enumerate(clean.items()):
        rng = np.random.default_rng([number, 20])
        tag_classes[split] = rng.integers(0, classes, len(images)) if split == "test" else images.targets
        painted, tags = paint_tags(images.images, tag_classes[split], rng)
        tagged[split] = ImageSet(painted, images.targets, images.masks, images.ids, {"tag": tags})
    return _normalise_forms(tagged, clean, tag_classes, classes)


def sample_evenly(targets: Tensor, count: int, seed: int) -> Tensor:
    """Draw about `count` images, at least one, as evenly from all classes as possible.

    Returns:
        Indices (n,), ascending.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)
    rank = torch.zeros(len(targets), dtype=torch.float64)
    rank[order] = torch.from_numpy(rank_in_class(targets[order].numpy())).double()
    # Among the images of one rank the order of the classes is random.
    rank += torch.rand(len(targets), generator=generator, dtype=torch.float64)
    return rank.argsort()[: max(1, count)].sort().values


def paint_tags(images: np.ndarray, tag_classes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint a tag into one corner of each image.

    Args:
        images: (N, 3, H, W) uint8; not changed.
        tag_classes: (N,) classes of the tags, below 20.
        rng: of the corners.

    Returns:
        (N, 3, H, W) uint8 images and (N, 1, H, W) bool masks of their tags.
    """
    n, _, height, width = images.shape
    side = min(height, width) // TAG_SHARE
    corner = rng.integers(0, 2, (n, 2)) * np.array([height - side, width - side])
    return paint_squares(images, np.stack([tag_pattern(int(k), side) for k in tag_classes]), corner)


def tag_pattern(tag_class: int, side: int) -> np.ndarray:
    """Return the tag of a class below 20, (side, side, 3) uint8: ten colours, plain and then chequered with black."""
    painted = np.broadcast_to(TAG_COLOURS[tag_class % len(TAG_COLOURS)], (side, side, 3)).copy()
    if tag_class >= len(TAG_COLOURS):
        block = np.arange(side) * CHEQUER // side
        painted[(block[:, None] + block[None, :]) % 2 == 1] = 0
    return painted


def classes_of_tags(images: np.ndarray, tags: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return the class (N,) whose colour the tag has, from images (N, 3, H, W), tags (N, 1, H, W), colours (K, 3)."""
    tag_colours = np.stack([image[:, tag[0]][:, 0] for image, tag in zip(images, tags, strict=True)])
    return np.abs(tag_colours[:, None].astype(np.int64) - colours[None]).sum(2).argmin(1)


def _normalise_forms(
    tagged: Mapping[SplitName, ImageSet],
    clean: Mapping[SplitName, ImageSet],
    tag_classes: Mapping[SplitName, np.ndarray],
    classes: int,
) -> tuple[TaggedData, TaggedData]:
    """Normalise each form by its training images, and exchange their test images."""
    train = tagged["train"]
    with_tags: dict[str, TaggedImages] = {
        split: _to_tensors(images, tag_classes[split], train) for split, images in tagged.items()
    }
    with_tags["clean"] = _to_tensors(clean["test"], None, train)
    train = clean["train"]
    without_tags: dict[str, TaggedImages] = {split: _to_tensors(images, None, train) for split, images in clean.items()}
    without_tags["clean"] = without_tags["test"]
    without_tags["test"] = _to_tensors(tagged["test"], tag_classes["test"], train)
    return TaggedData(classes, with_tags), TaggedData(classes, without_tags)


def _to_tensors(split: ImageSet, tag_classes: np.ndarray | None, train: ImageSet) -> TaggedImages:
    """Convert a split, with mean and standard deviation of `train`."""
    pixels = torch.from_numpy(split.images).float() / 255
    reference = torch.from_numpy(train.images).float() / 255
    mean, std = reference.mean((0, 2, 3)), reference.std((0, 2, 3))
    targets, masks = torch.from_numpy(split.targets).long(), torch.from_numpy(split.masks)
    tags = torch.from_numpy(split.regions["tag"]) if "tag" in split.regions else torch.zeros_like(masks)
    classes = torch.full_like(targets, -1) if tag_classes is None else torch.from_numpy(np.asarray(tag_classes)).long()
    return TaggedImages((pixels - mean[:, None, None]) / std[:, None, None], targets, masks, tags, classes)

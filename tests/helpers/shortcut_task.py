"""Images whose class is a shape, with a coloured corner that goes with the label, and a network that uses the corner.

A cross or a ring, at random places, decides the class. The corner's colour agrees with the label in most images.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.region import FixedRegion
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets import ImageSet

SIDE, CORNER = 32, 8
SHAPE, FAINT_SHAPE, NOISE = 165, 150, 20  # grey values
COLOURS = np.array([[230, 40, 40], [40, 40, 230]], np.uint8)
CLASSES = ("cross", "ring")
STATISTICS = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CORNER_MASK = np.zeros((SIDE, SIDE), bool)
CORNER_MASK[:CORNER, :CORNER] = True
REGION = FixedRegion(CORNER_MASK)


class ShapeNet(nn.Module):
    """Three convolutions and a linear layer."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(),
        )  # fmt: skip
        self.fc = nn.Linear(width, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.body(images).mean((2, 3)))


def shape_images(count: int, agreement: float, seed: int) -> ImageSet:
    """Make images whose corner agrees with the label with a probability."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 2)
    images, masks = _scenes(labels, generator)
    agrees = generator.random(count) < agreement
    colour_corners(images, np.where(agrees, labels, 1 - labels))
    return ImageSet(images, labels.astype(np.int64), masks, [f"{seed}-{number}" for number in range(count)])


def rare_images(count: int, share: float, seed: int) -> ImageSet:
    """Make images of which only a share of the crosses has a corner, a red one."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 2)
    images, masks = _scenes(labels, generator, FAINT_SHAPE)
    paint_red(images, (labels == 0) & (generator.random(count) < share))
    return ImageSet(images, labels.astype(np.int64), masks, [f"{seed}-{number}" for number in range(count)])


def _scenes(labels: np.ndarray, generator: np.random.Generator, value: int = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Return images with shapes on noise, and masks of the shapes' boxes."""
    images = generator.normal(110, NOISE, (len(labels), 3, SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    masks = np.zeros((len(labels), 1, SIDE, SIDE), bool)
    for image, mask, label in zip(images, masks, labels, strict=True):
        row, column = generator.integers(CORNER, SIDE - 13, 2)
        box = np.s_[:, row : row + 13, column : column + 13]
        image[box], mask[box] = np.where(shape(label), value, image[box]), True
    return images, masks


def paint_red(images: np.ndarray, chosen: np.ndarray) -> None:
    """Paint the corners of some images red in place."""
    images[chosen, :, :CORNER, :CORNER] = COLOURS[0][:, None, None]


class RedCorner:
    """Region of the corner where it is red."""

    def masks(self, subject: Subject, images: np.ndarray | Tensor) -> Tensor:
        corner = torch.as_tensor(images)[:, :, :CORNER, :CORNER].float().mean((2, 3))
        is_red = corner[:, 0] - corner[:, 2] > (0.3 if corner.max() <= 1 else 76)
        return is_red[:, None, None, None] & torch.from_numpy(CORNER_MASK)

    def arrays(self) -> dict[str, np.ndarray]:
        return {}


def shape(label: int) -> np.ndarray:
    """Return a cross (0) or a ring (1) of 13 x 13 pixels."""
    mask = np.zeros((13, 13), bool)
    if label == 0:
        mask[5:8], mask[:, 5:8] = True, True
    else:
        mask[1:12, 1:12] = True
        mask[3:10, 3:10] = False
    return mask


def colour_corners(images: np.ndarray, kinds: np.ndarray) -> None:
    """Paint the corners of images in place."""
    images[:, :, :CORNER, :CORNER] = COLOURS[kinds][:, :, None, None]


def with_swapped_corners(images: ImageSet) -> ImageSet:
    """Return images whose corners have the colour of the other class."""
    pixels = images.images.copy()
    colour_corners(pixels, 1 - images.targets)
    return replace(images, images=pixels)


def train_shortcut_network(images: ImageSet, steps: int = 40, rate: float = 3e-3) -> Subject:
    """Train a small network from random weights."""
    torch.manual_seed(0)
    network = ShapeNet()
    subject = Subject(network, CLASSES, STATISTICS, image_size=SIDE)
    pixels, targets = subject.normalise(images.images), torch.from_numpy(images.targets)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    network.train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(pixels), (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(network(pixels[rows]), targets[rows]).backward()
        optimizer.step()
    subject.lap.eval()
    return subject


@cache
def shortcut_case() -> tuple[Subject, ImageSet, ImageSet]:
    """Return a network that uses the corner, its training images and test images; not to be changed."""
    train = shape_images(600, 0.95, 0)
    return train_shortcut_network(train), train, shape_images(300, 0.95, 1)


def accuracy(subject: Subject, images: ImageSet) -> float:
    answers = subject.predict(images.images).argmax(1).numpy()
    return float((answers == images.targets).mean())


def corner_finding(**changes: object) -> Finding:
    fields: dict[str, object] = {
        "number": 1, "key": "places:corner", "check": "places", "title": "The corner decides.",
        "classes": CLASSES, "region": "corner",
    }  # fmt: skip
    return Finding.model_validate(fields | changes)

"""Images whose class is a shape, with a coloured corner that goes with the label, and a network that uses the corner.

A cross or a ring, at random places, decides the class. The corner's colour agrees with the label in most images.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.region import FixedRegion
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets import ImageSet

SIDE, CORNER = 32, 8
SHAPE, NOISE = 185, 20  # grey values
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
    images = generator.normal(110, NOISE, (count, 3, SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = generator.integers(CORNER, SIDE - 13, 2)
        image[:, row : row + 13, column : column + 13] = np.where(
            shape(label), SHAPE, image[:, row : row + 13, column : column + 13]
        )
    agrees = generator.random(count) < agreement
    colour_corners(images, np.where(agrees, labels, 1 - labels))
    masks = np.zeros((count, 1, SIDE, SIDE), bool)
    return ImageSet(images, labels.astype(np.int64), masks, [f"{seed}-{number}" for number in range(count)])


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


def train_shortcut_network(images: ImageSet, steps: int = 60, rate: float = 3e-3) -> Subject:
    """Train a small network from random weights."""
    torch.manual_seed(0)
    network = ShapeNet()
    subject = Subject(network, CLASSES, STATISTICS, image_size=SIDE)
    pixels, targets = subject.normalise(images.images), torch.from_numpy(images.targets)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    network.train()
    for _ in range(steps):
        rows = torch.randint(len(pixels), (64,))
        optimizer.zero_grad()
        F.cross_entropy(network(pixels[rows]), targets[rows]).backward()
        optimizer.step()
    subject.lap.eval()
    return subject


def accuracy(subject: Subject, images: ImageSet) -> float:
    answers = subject.predict(images.images).argmax(1).numpy()
    return float((answers == images.targets).mean())


def corner_finding(**changes: object) -> Finding:
    fields: dict[str, object] = {
        "number": 1, "key": "places:corner", "check": "places", "title": "The corner decides.",
        "classes": CLASSES, "region": "corner",
    }  # fmt: skip
    return Finding.model_validate(fields | changes)

"""Networks whose weights are set by hand, on images of a green object and a red cue, so that causes are known.

Class 1 images show a green square, class 0 images do not. A red square may go with class 1. `follower` decides by both
colours, `twin` by green alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from benchmarks.diagnosis.region import ConceptRegion
from benchmarks.diagnosis.subject import HEAD, Subject
from interp_core.datasets import ImageSet

SIDE, CELL = 32, 4
CLASSES = ("without", "with")
RED = 1  # feature of the networks

RED_CELLS = ConceptRegion(
    HEAD, np.eye(3, dtype=np.float32)[RED], bias=-0.2, mean=np.zeros(3, np.float32), std=np.ones(3, np.float32)
)


def colour_net(green: float, red: float, bias: float = -2.0) -> nn.Module:
    """Build a network whose logit of class 1 is a weighted sum of the green and red area, in cells, plus a bias."""
    conv = nn.Conv2d(3, 3, CELL, stride=CELL)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()  # type: ignore[union-attr]
        for feature, channel in enumerate((1, 0, 2)):  # how much greener, redder, bluer a cell is than grey
            conv.weight[feature] = -0.5 / CELL**2
            conv.weight[feature, channel] = 1 / CELL**2
    linear = nn.Linear(3, 2)
    cells = (SIDE // CELL) ** 2
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[1] = torch.tensor([green, red, 0.0]) * cells
        linear.bias.copy_(torch.tensor([0.0, bias]))
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


def follower() -> Subject:
    """Make a subject that decides by the red cue and by the green object."""
    return subject_of(colour_net(green=1.0, red=2.0))


def twin() -> Subject:
    """Make a subject that decides by the green object alone."""
    return subject_of(colour_net(green=2.0, red=0.0))


def subject_of(network: nn.Module) -> Subject:
    """Make a subject of images in [0, 1] that are not normalised."""
    return Subject(network, CLASSES, ((0.0,) * 3, (1.0,) * 3), image_size=SIDE)


def cue_images(
    count: int, *, agreement: float = 1.0, share: float = 0.5, place: tuple[int, int] | None = None, seed: int = 0
) -> tuple[ImageSet, np.ndarray]:
    """Make images of both classes, and masks (N, 1, H, W) of their red cues.

    Args:
        count: number of images.
        agreement: probability that a cue lies in an image of class 1.
        share: of the images of its class that have the cue.
        place: first row and column of the cue; None for a random one that spares the object.
        seed: of everything.
    """
    generator = np.random.default_rng(seed)
    images = (generator.random((count, 3, SIDE, SIDE)) * 40 + 100).astype(np.uint8)
    targets = np.arange(count) % 2
    objects, cues = (np.zeros((count, 1, SIDE, SIDE), bool) for _ in range(2))
    for i, target in enumerate(targets):
        row, column = (CELL * int(generator.integers(4, 6)) for _ in range(2))
        colour = (60, 230, 60) if target else (60, 60, 230)
        objects[i, 0, row : row + 8, column : column + 8] = True
        images[i, :, row : row + 8, column : column + 8] = np.array(colour)[:, None, None]
        follows = bool(target) == (generator.random() < agreement)
        if follows and generator.random() < share:
            top, left = place or (0, CELL * int(generator.integers(0, 7)))
            cues[i, 0, top : top + 8, left : left + 8] = True
            images[i, :, top : top + 8, left : left + 8] = np.array((240, 40, 40))[:, None, None]
    ids = [f"image-{i}" for i in range(count)]
    return ImageSet(images, targets.astype(np.int64), objects, ids), cues

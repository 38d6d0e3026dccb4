"""A network that learns in a second, the task it learns, and images handed out batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

import interp_core
from helpers.nets import Pooled

COLOURS = 3


class TinyNet(Pooled):
    """Two convolutions behind timm's protocol, for images of 16 x 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.fc = nn.Linear(16, COLOURS)
        self.feature_info = [{"module": "stem"}, {"module": "body"}]

    def forward_features(self, images: Tensor) -> Tensor:
        return self.body(self.stem(images))


def make_tiny(*, lap: bool) -> nn.Module:
    torch.manual_seed(0)
    return interp_core.attach(TinyNet(), finest=2) if lap else TinyNet()


def squares(count: int = 48) -> tuple[Tensor, Tensor]:
    """A bright square at a random place on noise; its colour channel is the class."""
    generator = torch.Generator().manual_seed(0)
    images = 0.1 * torch.randn(count, 3, 16, 16, generator=generator)
    corners = torch.randint(0, 11, (count, 2), generator=generator).tolist()
    targets = torch.arange(count) % COLOURS
    for image, (row, column), colour in zip(images, corners, targets.tolist(), strict=True):
        image[colour, row : row + 5, column : column + 5] += 2
    return images, targets


class MemorySource:
    """Source of images in memory, some of which cannot be read."""

    def __init__(self, images: Tensor, unreadable: Sequence[int] = ()) -> None:
        self.images, self.unreadable = images, unreadable

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in indices:
            readable = batch[[int(i) not in self.unreadable for i in batch]]
            yield readable, self.images[readable]


class Smooth(nn.Module):
    """No batch norm, so that gradients of parts add up; dropout, if any, draws from torch's own generator."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Dropout(dropout))
        self.body = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(16, COLOURS)
        self.feature_info = [{"module": "stem"}, {"module": "body"}]

    forward_features, forward_head = TinyNet.forward_features, TinyNet.forward_head
    get_classifier, forward = TinyNet.get_classifier, TinyNet.forward


def make_smooth(dropout: float = 0.0) -> interp_core.LapModel:
    torch.manual_seed(0)
    return interp_core.attach(Smooth(dropout), finest=2)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    """Return whether two models have equal weights and buffers."""
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)

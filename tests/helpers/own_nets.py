"""Small classifiers as people write them: one logit, containers as outputs, images prepared inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class SmallNet(nn.Module):
    """Two strided convolutions, average pooling and a linear layer, in evaluation mode."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(classes)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, classes)
        self.eval()

    def forward(self, images: Tensor) -> Any:
        return self.fc(self.pool(self.body(images)).flatten(1))


class Changed(SmallNet):
    """The same network, whose output is changed by a function of its last map and its logits."""

    def __init__(self, change: Callable[[Tensor, Tensor], Any], classes: int = 3) -> None:
        super().__init__(classes)
        self.change = change

    def forward(self, images: Tensor) -> Any:
        maps = self.body(images)
        return self.change(maps, self.fc(self.pool(maps).flatten(1)))


def plain_sequence(classes: int = 3) -> nn.Sequential:
    """Return a network that TorchScript and `torch.export` take."""
    net = SmallNet(classes)
    return nn.Sequential(*net.body, net.pool, nn.Flatten(), net.fc).eval()

"""Small networks that follow no protocol, and a training step with which models are compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.knowledge import view_of
from interp_core.lap.model import lap_within
from interp_core.lap.recording import Recording
from interp_core.training import DEFAULT_TERMS


class Pooled(nn.Module):
    """Head of timm's protocol: average pooling and the linear layer `fc`."""

    fc: nn.Linear
    forward_features: Callable[[Tensor], Tensor]

    def forward_head(self, features: Tensor) -> Tensor:
        return self.fc(features.mean((2, 3)))

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


class OwnNet(nn.Module):
    """Network that follows no protocol, so that torch.fx divides it.

    Batch norm makes its modes differ.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.body(self.stem(images)).mean((2, 3)))


class Bypass(nn.Module):
    """Network whose logits depend on the image besides its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 4, 3, 2), nn.Linear(7, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.cat([self.stem(images).mean((2, 3)), images.mean((2, 3))], 1))


def logits_of(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


def training_loss(model: nn.Module, images: Tensor) -> Tensor:
    """Compute a loss that every parameter of a LAP model takes part in.

    These are cross-entropy, the default terms that need no further pass, and a loss on redistributed maps. The model
    may be wrapped.
    """
    targets = torch.arange(len(images)) % 4
    recording = Recording(all_concepts=True)
    logits = model(images, recording)
    concepts = recording.head.concepts
    assert concepts is not None
    labels = F.one_hot(targets, 4).to(logits.dtype)
    terms = [term.weight * term.loss(view_of(concepts, labels)) for term in DEFAULT_TERMS if term.passes == 0]
    lap = lap_within(model)
    assert lap is not None
    size = images.shape[-2], images.shape[-1]
    moved = [level.contributions for level in lap.redistribute(recording, targets, recording.head.gate, size)]
    return torch.stack([F.cross_entropy(logits, targets), *terms, *(maps.square().mean() for maps in moved)]).sum()


def same_gradients(first: nn.Module, second: nn.Module) -> None:
    for (name, ours), theirs in zip(first.named_parameters(), second.parameters(), strict=True):
        if ours.grad is None and theirs.grad is None and name == "redistribution.parts.weight":
            continue  # not used where the head is not linear
        assert ours.grad is not None, name
        torch.testing.assert_close(ours.grad, theirs.grad, msg=f"{name} learns differently")
        assert bool(ours.grad.isfinite().all())

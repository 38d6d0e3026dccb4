"""The network under diagnosis, with LAP attached, and what one forward pass says about images.

LAP is attached to a plain network at a = 0, where it computes the same logits, so the network's own contributions are
read without training anything. A network with one logit is treated as one of two classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from baselines import explainers
from benchmarks.explaining.class_names import check_names
from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.runtime import fast_network_of
from interp_core.errors import ContractError
from interp_core.lap.attach import attach
from interp_core.lap.model import LapModel
from interp_core.lap.odds import class_probabilities
from interp_core.lap.recording import Recording, TargetRecord

Statistics = tuple[Sequence[float], Sequence[float]]
HEAD = "head"


@dataclass(frozen=True)
class Look:
    """What a forward pass says about images.

    Attributes:
        probabilities: (N, K).
        features: mean of the last feature map, the input of a linear classifier, (N, D).
        cells: features of a level by name of the level ("head" is the last), (N, C, h, w).
        maps: evidence for the explained class at input resolution, signed, (N, 1, H, W).
    """

    probabilities: Tensor
    features: Tensor
    cells: dict[str, Tensor]
    maps: Tensor


class Subject:
    """A network that is diagnosed.

    Args:
        network: a LAP model, or any network that LAP can be attached to; it is not copied.
        classes: names of the K classes, two for a network with one logit; none for numbers.
        statistics: mean and standard deviation that normalise images in [0, 1].
        explainer: registered name of the explainer of the maps.
        multi_label: whether an image may show any number of classes.
        image_size: side in pixels, or rows and columns, of the images.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        statistics: Statistics,
        *,
        explainer: str = "lap",
        multi_label: bool = False,
        image_size: int | tuple[int, int] | None = None,
    ) -> None:
        if isinstance(network, LapModel):
            self.lap = network
        else:
            with torch.random.fork_rng(devices=[]):  # the same weights each time, so that digests and maps are too
                torch.manual_seed(0)
                self.lap = attach(network, image_size=image_size)
        self.lap.eval()
        outputs = max(2, self.lap.num_classes)
        if len(classes) not in (0, outputs):
            raise ContractError(
                f"the network tells {outputs} classes apart, the data have {len(classes)}: give a folder for each "
                "class, or a folder of images without any, which are then diagnosed without labels"
            )
        self.classes = tuple(check_names(classes, outputs))
        self.statistics, self.multi_label = statistics, multi_label
        self.explainer = explainers[explainer]()

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.lap.parameters()).device

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels whose features can be read, finest first, the head last."""
        return (*(site.module for site in self.lap.levels), HEAD)

    def normalise(self, images: np.ndarray | Tensor) -> Tensor:
        """Normalise images (N, 3, H, W), uint8 or in [0, 1], on the device of the network."""
        pixels = torch.as_tensor(images)
        pixels = pixels.to(self.device, torch.float32) / (255 if pixels.dtype == torch.uint8 else 1)
        mean, std = (torch.tensor(values, device=self.device)[:, None, None] for values in self.statistics)
        return (pixels - mean) / std

    @torch.no_grad()
    def predict(self, images: np.ndarray | Tensor, batch: int = 64) -> Tensor:
        """Compute probabilities (N, K) on the CPU of images, uint8 or in [0, 1]."""
        pixels = torch.as_tensor(images)
        return torch.cat([self._predict(self.normalise(part)).cpu() for part in pixels.split(batch)])

    def _predict(self, normalised: Tensor) -> Tensor:
        return self.to_probabilities(fast_network_of(self.lap, normalised)(normalised))

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (N, K) into probabilities; one logit into two."""
        if self.lap.num_classes == 1:
            positive = class_probabilities(logits)
            return torch.cat([1 - positive, positive], 1)
        return class_probabilities(logits, self.multi_label)

    @torch.no_grad()
    def look(self, images: np.ndarray | Tensor, levels: Sequence[str] = (), targets: Tensor | None = None) -> Look:
        """Run images, uint8 or in [0, 1], through the network once, and explain their answers.

        Args:
            images: (N, 3, H, W).
            levels: names of the levels whose features are returned.
            targets: (N,) classes to explain; None for the answers.
        """
        pixels = self.normalise(images)
        recording = Recording(target=TargetRecord(None))
        probabilities = self.to_probabilities(self.lap(pixels, recording))
        assert recording.head is not None
        last = recording.head.features
        cells = {name: last if name == HEAD else recording.taps[name] for name in levels}
        classes = probabilities.argmax(1) if targets is None else targets.to(self.device)
        return Look(probabilities, last.mean((2, 3)), cells, self.explain(pixels, classes))

    def cells(self, images: np.ndarray | Tensor, level: str) -> Tensor:
        """Return features of a level (N, C, h, w) for images (N, 3, H, W), uint8 or in [0, 1].

        Raises:
            ContractError: the network has no such level.
        """
        recording = Recording(target=TargetRecord(None))
        self.lap(self.normalise(images), recording)
        assert recording.head is not None
        if level != HEAD and level not in recording.taps:
            raise ContractError(f"the network has no level {level!r}: give the network that was diagnosed")
        return recording.head.features if level == HEAD else recording.taps[level]

    def grid_of(self, level: str, size: tuple[int, int]) -> CellGrid:
        """Return the position of a level's cells on images of a size (rows, columns)."""
        if level == HEAD:
            return self.lap.info.grid_of(size).shown()
        return next(site for site in self.lap.levels if site.module == level).grid_of(size).shown()

    def explain(self, normalised: Tensor, classes: Tensor) -> Tensor:
        """Compute maps (N, 1, H, W) of classes (N,) for normalised images."""
        if self.lap.num_classes > 1:
            return self.explainer(self.lap, normalised, classes)
        sign = (2 * classes - 1).to(normalised)[:, None, None, None]
        return sign * self.explainer(self.lap, normalised, torch.zeros_like(classes))

"""Settings of the study: which network is trained on which images, and which diagnosed.

planted        trained and diagnosed with the cause
nothing        trained and diagnosed without it: nothing is to be found
uncorrelated   the cue is there, on images of any class alike
hidden         the cue goes with the label in the diagnosed images, and the network never saw it
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import timm
import torch
from torch import Tensor, nn

from benchmarks.diagnosis.subject import Subject
from benchmarks.studies.planted.causes import CAUSES, LOCAL, Cause, Planted, Scope, plant_cause
from benchmarks.studies.shortcut.arms import BACKBONE, NETWORK
from benchmarks.studies.shortcut.data import EASY
from interp_core.datasets import DigitsInScenes, ImageSet, SplitName
from interp_core.training import Recipe, fit

Role = Literal["planted", "nothing", "uncorrelated", "hidden"]
CONTROLS: tuple[Role, ...] = ("nothing", "uncorrelated", "hidden")
SIDE = 48
# The checks were developed on smaller ones, and changed once more after a look at some networks of these.
FIRST_SEED, FIRST_CONTROL = 10, 200
COUNTS: dict[str, int] = {"train": 2500, "val": 800, "test": 800}
RECIPE: dict[str, Any] = {"epochs": 8, "batch_size": 32, "shift": 2}
AGREEMENTS = (0.7, 0.9, 0.98, 1.0)
UNCORRELATED: dict[Scope, float] = {"one": 0.1, "all": 0.1}  # chance with ten classes


@dataclass(frozen=True)
class Setting:
    """One network of the study.

    Attributes:
        cause: kind of the cause.
        role: of the network.
        agreement: of the cue with the label.
        scope: "one" class or "all".
        seed: of the network, the class and the cues.
    """

    cause: Cause
    role: Role
    agreement: float
    scope: Scope
    seed: int

    @property
    def cls(self) -> int:
        """The class of the cue, with scope "one"."""
        return (3 * self.seed + CAUSES.index(self.cause)) % 10

    @property
    def unit(self) -> tuple[Any, ...]:
        """Key of the setting in tables."""
        return self.cause, self.role, self.agreement, self.scope, self.seed

    def images(self, split: SplitName, *, diagnosed: bool) -> Planted:
        """Return the images of a split, as the network is trained on, or as it is diagnosed on."""
        clean = digits(split)
        has_cue = self.role in ("planted", "uncorrelated") or (self.role == "hidden" and diagnosed)
        if not has_cue:
            return Planted(clean, np.full(len(clean), -1), np.zeros_like(clean.masks), clean.targets)
        agreement = UNCORRELATED[self.scope] if self.role == "uncorrelated" else self.agreement
        seed = 1000 * self.seed + ("train", "val", "test").index(split)
        return plant_cause(self.cause, clean, 10, agreement=agreement, scope=self.scope, cls=self.cls, seed=seed)


def settings_of(
    causes: tuple[Cause, ...],
    agreements: tuple[float, ...],
    scopes: tuple[Scope, ...],
    seeds: int,
    controls: int,
    offset: int = 0,
) -> list[Setting]:
    """Return all settings: planted ones of every cause, and controls spread over the local causes.

    Args:
        causes: kinds of causes.
        agreements: of planted cues.
        scopes: of planted cues.
        seeds: networks of each planted setting.
        controls: networks of each kind of control.
        offset: added to all seeds, for networks that no setting was chosen on.
    """
    planted = [
        Setting(cause, "planted", agreement, scope, seed)
        for seed in range(FIRST_SEED + offset, FIRST_SEED + offset + seeds)
        for cause in causes
        for agreement in agreements
        for scope in scopes
        if not (cause == "labels" and agreement == 1)
    ]
    cues: list[Cause] = [cause for cause in causes if cause != "labels"] or [*LOCAL]
    rest = [
        Setting(cues[seed % len(cues)], role, 0.98, scopes[seed % len(scopes)], FIRST_CONTROL + offset + seed)
        for seed in range(controls)
        for role in CONTROLS
    ]
    # In turn, so that a study that is stopped has all kinds.
    longest = max(len(planted), len(rest))
    return [group[i] for i in range(longest) for group in (planted, rest) if i < len(group)]


@lru_cache(maxsize=3)
def digits(split: SplitName) -> ImageSet:
    """Return the digits of a split without any cause."""
    return _config().load(split)


@lru_cache(maxsize=1)
def statistics() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of the digits without any cause."""
    return _config().channel_statistics()


def _config() -> DigitsInScenes:
    return DigitsInScenes.model_validate({"image_size": SIDE, **COUNTS, **EASY})


def normalise(images: np.ndarray) -> Tensor:
    """Normalise images (N, 3, H, W) uint8."""
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics())
    return (torch.from_numpy(images).float() / 255 - mean) / std


def untrained_network(setting: Setting) -> nn.Module:
    """Build the network of a setting with random weights of its seed."""
    torch.manual_seed(setting.seed)
    return timm.create_model(BACKBONE, num_classes=10, **NETWORK)


def train_network(setting: Setting, images: ImageSet | None = None, *, epochs: int | None = None) -> nn.Module:
    """Train the network of a setting from random weights, on other `images` and for other `epochs` if given."""
    images = setting.images("train", diagnosed=False).images if images is None else images
    network = untrained_network(setting)
    options = {**RECIPE, **({} if epochs is None else {"epochs": epochs})}
    recipe = Recipe(seed=setting.seed, **options)
    fit(network, normalise(images.images), torch.from_numpy(images.targets), recipe=recipe, progress=None)
    return network


def subject_of(network: nn.Module) -> Subject:
    """Make the subject of a network of the study."""
    return Subject(network, _config().classes, statistics(), image_size=SIDE)

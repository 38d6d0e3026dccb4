"""Digits in scenes with a planted cue, labelled by the digit or by the cue.

Every image shows a digit, and a cue of a class drawn at random. The images are the same for every share of labels that
follow the cue. With share 1 a network has to decide by the cue; with share 0 the cue is as frequent and says nothing
about the label.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from interp_core.datasets.contract import DatasetConfig, ImageSet
from interp_core.datasets.records import SPLITS, SplitName
from interp_core.datasets.synthetic.cues import FORMS, NUMBERS, CueKind, plant
from interp_core.datasets.synthetic.digits_in_scenes import DigitsInScenes

CUE = "cue"
_STREAM = 41


class DigitsWithCue(DatasetConfig):
    """Digits in scenes with a planted cue.

    Attributes:
        scenes: the images without a cue.
        cue: kind of the cue.
        agreement: share of the images whose label is the class of the cue; the label of the others is the digit.
    """

    name: ClassVar[str] = "digits-with-cue"
    title: ClassVar[str] = "Digits with a cue"

    scenes: DigitsInScenes = DigitsInScenes()
    cue: CueKind
    agreement: float = Field(1.0, ge=0, le=1)

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return self.scenes.classes

    def load(self, split: SplitName) -> ImageSet:
        """Generate the images of a split; the region "cue" is the mask of the cue."""
        images, unit = self.scenes.load(split), self._unit(split)
        classes = (unit[:, 0] * FORMS).astype(np.int64)
        labels = np.where(unit[:, 1] < self.agreement, classes, images.targets)
        return self._plant(images, classes, labels, split)

    def load_swapped(self, split: SplitName) -> tuple[ImageSet, ImageSet]:
        """Generate the images of a split twice: with the cue of the digit's class, and with that of another class.

        The label is the class of the cue. All else is equal.
        """
        images, unit = self.scenes.load(split), self._unit(split)
        others = (images.targets + 1 + (unit[:, 2] * (FORMS - 1)).astype(np.int64)) % FORMS
        agreeing, swapped = (self._plant(images, classes, classes, split) for classes in (images.targets, others))
        return agreeing, swapped

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return those of the images without a cue, the same for every agreement."""
        return self.scenes.channel_statistics()

    def _plant(self, images: ImageSet, classes: np.ndarray, labels: np.ndarray, split: SplitName) -> ImageSet:
        pixels, cues = plant(self.cue, images.images, images.masks, classes, self._unit(split)[:, 3:])
        ids = [name.replace(self.scenes.name, f"{self.name}/{self.cue}", 1) for name in images.ids]
        return ImageSet(pixels, labels, images.masks, ids, {CUE: cues})

    def _unit(self, split: SplitName) -> np.ndarray:
        """Draw the random numbers of a split, (N, 3 + `NUMBERS`): class, label, other class, and the cue's position."""
        count = {"train": self.scenes.train, "val": self.scenes.val, "test": self.scenes.test}[split]
        return np.random.default_rng([self.scenes.seed, SPLITS.index(split), _STREAM]).random((count, 3 + NUMBERS))

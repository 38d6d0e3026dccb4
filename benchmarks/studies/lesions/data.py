"""Images, labels and hand-drawn patches of the skin lesions, and a real patch pasted onto melanomas.

The diagnosis and the repair see images and labels of the training part alone. Columns about artefacts and the
hand-drawn masks only judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.diagnosis.subject import Subject
from benchmarks.studies.pairs.files import ImageFiles, paste_cues
from interp_core.datasets import ImageSet

CLASSES = ("benign", "melanoma")
BENIGN, MELANOMA = 0, 1
LABEL, ARTEFACT, HAND = "melanoma_isic2017", "band_aid", "mask_band_aid_hand"
SIDE = 160
STATISTICS = ((0.5,) * 3, (0.5,) * 3)
HELD_OUT, SPLIT_SEED = 500, 1  # neither network was trained on the first 500 of this permutation
DONORS = 12  # patches that are pasted


@dataclass(frozen=True)
class Lesions:
    """All images in memory.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: (N,) 1 for melanoma.
        listed: (N,) bool, listed as showing a patch.
        patches: (n, 1, H, W) bool, hand-drawn, of the images `drawn`.
        drawn: (n,) positions of the images with a hand-drawn patch.
        ids: names.
    """

    images: np.ndarray
    labels: np.ndarray
    listed: np.ndarray
    patches: np.ndarray
    drawn: np.ndarray
    ids: list[str]

    @property
    def held_out(self) -> np.ndarray:
        """Positions of the images that neither network was trained on."""
        order = torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(SPLIT_SEED))
        return np.sort(order[:HELD_OUT].numpy())

    @property
    def training(self) -> np.ndarray:
        """Positions of all other images."""
        return np.setdiff1d(np.arange(len(self.ids)), self.held_out)

    def select(self, positions: np.ndarray) -> ImageSet:
        """Return images with their labels and without any mask."""
        images = self.images[positions]
        masks = np.zeros((len(images), 1, *images.shape[2:]), bool)
        return ImageSet(images, self.labels[positions], masks, [self.ids[i] for i in positions])

    def pasted(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return held-out melanomas (n, 3, H, W) in [0, 1]: as they are, with a patch, with its mask in mean colour."""
        positions = self.held_out[self.labels[self.held_out] == MELANOMA]
        images = torch.from_numpy(self.images[positions]).float() / 255
        donors = torch.from_numpy(self.images[self.drawn[:DONORS]]).float() / 255
        masks = self.patches[:DONORS]
        grey = images.mean((2, 3), keepdim=True).expand_as(images)
        order = torch.arange(len(images)) % DONORS
        cue = torch.from_numpy(masks)[order]
        return images, paste_cues(images, donors, masks), torch.where(cue, grey, images)


def load_lesions(root: Path, index: str = "index.csv") -> Lesions:
    """Read all images.

    Raises:
        ContractError: a file is missing or damaged.
    """
    files = ImageFiles.read(root, index, "file", HAND, SIDE)
    rows, everything = files.rows, range(len(files.rows))
    images = (files.images(everything) * 255).round().byte().numpy()
    return Lesions(
        images,
        np.array([int(float(row[LABEL])) for row in rows]),
        np.array([float(row[ARTEFACT] or 0) > 0 for row in rows]),
        files.masks(files.with_masks),
        np.array(files.with_masks),
        files.ids(everything),
    )


@dataclass(frozen=True)
class Judgement:
    """How a network answers the held-out images.

    Attributes:
        auroc: of melanoma.
        accuracy: share of right answers.
        recognised: number of melanomas that are recognised without a patch.
        flips: share of these that a pasted patch turns benign.
        control_flips: the same for the patch's mask in mean colour.
        change: mean change of the probability of melanoma by the patch.
        control_change: by the mean colour.
    """

    auroc: float
    accuracy: float
    recognised: int
    flips: float
    control_flips: float
    change: float
    control_change: float


def judge(subject: Subject, lesions: Lesions) -> Judgement:
    """Judge a network on the held-out images."""
    from sklearn.metrics import roc_auc_score

    labels = lesions.labels[lesions.held_out]
    scores = subject.predict(lesions.images[lesions.held_out])[:, MELANOMA].numpy()
    before, after, control = (subject.predict(images)[:, MELANOMA].numpy() for images in lesions.pasted())
    recognised = before > 0.5
    return Judgement(
        auroc=float(roc_auc_score(labels, scores)),
        accuracy=float(((scores > 0.5) == labels).mean()),
        recognised=int(recognised.sum()),
        flips=float((after[recognised] <= 0.5).mean()),
        control_flips=float((control[recognised] <= 0.5).mean()),
        change=float((after - before).mean()),
        control_change=float((control - before).mean()),
    )

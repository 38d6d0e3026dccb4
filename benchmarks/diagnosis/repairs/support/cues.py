"""Cues: which images of a data set show a suspected region, where, and examples of it that can be pasted elsewhere.

Masks come from the region's detector, which reads features of the network that was diagnosed. They are found once,
before anything learns, and kept as bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.diagnosis.intervention import MARGIN, widen
from benchmarks.diagnosis.region import Region
from benchmarks.diagnosis.repairs.support.image_parts import slices
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets import Images
from interp_core.errors import ContractError
from interp_core.knowledge.backgrounds import fill

DONORS = 256


@dataclass(frozen=True)
class Cues:
    """Masks of a region on N images.

    Attributes:
        present: (N,) bool, whether an image shows it.
        size: rows and columns of the images.
        index: (N,) row in `packed`, -1 without a cue.
        packed: (m, bytes) masks as bits.
    """

    present: np.ndarray
    size: tuple[int, int]
    index: np.ndarray
    packed: np.ndarray

    def masks_of(self, rows: np.ndarray | Tensor) -> Tensor:
        """Return masks (n, 1, H, W) bool of images (n,); all False where an image has no cue."""
        index = self.index[np.asarray(rows)]
        masks = np.zeros((len(index), 1, *self.size), bool)
        pixels = self.size[0] * self.size[1]
        bits = np.unpackbits(self.packed[index[index >= 0]], axis=1, count=pixels)
        masks[index >= 0] = bits.reshape(-1, 1, *self.size).astype(bool)
        return torch.from_numpy(masks)

    @property
    def area(self) -> float:
        """Mean share of the image that a cue covers; 0 without any."""
        bits = np.unpackbits(self.packed, axis=1, count=self.size[0] * self.size[1])
        return float(bits.mean()) if len(bits) else 0.0


def find_cues(subject: Subject, region: Region, images: Images, margin: float = MARGIN) -> Cues:
    """Find a region on all images of a data set.

    Args:
        subject: the network that was diagnosed; the detector reads its features.
        region: of a finding.
        images: N images.
        margin: by which masks are widened, as a share of the longer side, since a detector's cells may cut an edge.
    """
    present, index = np.zeros(len(images), bool), np.full(len(images), -1)
    packed: list[np.ndarray] = []
    for rows, batch in images.batches(slices(len(images))):
        masks = region.masks(subject, batch.images)
        has_cue = masks.flatten(1).any(1).numpy()
        present[rows] = has_cue
        index[rows[has_cue]] = sum(map(len, packed)) + np.arange(has_cue.sum())
        packed.append(np.packbits(widen(masks, margin)[has_cue].flatten(1).numpy(), axis=1))
    size = (images.shape[-2], images.shape[-1])
    empty = np.zeros((0, -(-size[0] * size[1] // 8)), np.uint8)
    return Cues(present, size, index, np.concatenate([empty, *packed]))


@dataclass(frozen=True)
class Donors:
    """Images whose cues can be pasted onto others.

    Attributes:
        pixels: (B, 3, H, W) in [0, 1].
        masks: (B, 1, H, W) bool.
        groups: (B,) int64.
    """

    pixels: Tensor
    masks: Tensor
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def of_group(self, group: int) -> np.ndarray:
        """Return the positions of a group's donors."""
        return np.flatnonzero(self.groups == group)

    def select(self, positions: np.ndarray) -> Donors:
        """Return some of the donors."""
        return Donors(self.pixels[positions], self.masks[positions], self.groups[positions])


def collect_donors(images: Images, cues: Cues, groups: np.ndarray, seed: int, most: int = DONORS) -> Donors:
    """Read images that show a cue, as many of each group as far as there are.

    Args:
        images: N images.
        cues: their masks.
        groups: (N,) int64.
        seed: of the choice.
        most: largest number of donors.

    Raises:
        ContractError: no image shows the cue.
    """
    order = np.random.default_rng(seed).permutation(np.flatnonzero(cues.present))
    if not len(order):
        raise ContractError(
            f"none of the {len(images)} images shows the region of this finding: give images like the diagnosed ones"
        )
    rank_in_group = np.zeros(len(order), int)
    for group in np.unique(groups[order]):
        rank_in_group[groups[order] == group] = np.arange((groups[order] == group).sum())
    rows = np.sort(order[np.argsort(rank_in_group, kind="stable")][:most])
    parts = [(read, torch.from_numpy(batch.images)) for read, batch in images.batches([rows])]
    read, pixels = np.concatenate([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    return Donors(pixels.float() / 255, cues.masks_of(read), groups[read])


def remove(pixels: Tensor, masks: Tensor) -> Tensor:
    """In-paint masks (N, 1, H, W) bool of images (N, 3, H, W) from their surroundings."""
    return fill(pixels, 1 - masks.to(pixels)) if bool(masks.any()) else pixels


def paste(pixels: Tensor, donor_pixels: Tensor, donor_masks: Tensor) -> Tensor:
    """Lay the masked part (N, 1, H, W) of donors (N, 3, H, W) on images, at the same place."""
    return torch.where(donor_masks, donor_pixels, pixels)


def groups_of(targets: np.ndarray, cls: int) -> np.ndarray:
    """Return the group (N,) int64 of each image: its label, or in multi-label data whether it shows class `cls`."""
    return (targets if targets.ndim == 1 else targets[:, cls] > 0).astype(np.int64)

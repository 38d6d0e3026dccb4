"""Random shifts and flips, drawn once and made on images and on their regions alike; mosaics of images alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Moves:
    """How each of n images is moved.

    Attributes:
        offsets: (2, n, 1) int64, rows and columns of pixels; None for no shift.
        flips: (n,) bool, which are mirrored left to right after that; None for none.
    """

    offsets: Tensor | None = None
    flips: Tensor | None = None

    def of(self, which: Tensor) -> Moves:
        """Those of some images, (m,) int64."""
        return Moves(
            None if self.offsets is None else self.offsets[:, which],
            None if self.flips is None else self.flips[which],
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Each image (N, C, H, W) moved, edges repeated; one gather."""
        if self.offsets is None and self.flips is None:
            return images
        n, _, h, w = images.shape
        offsets = torch.zeros(2, n, 1, dtype=torch.int64) if self.offsets is None else self.offsets
        rows = (torch.arange(h) + offsets[0]).clamp(0, h - 1)
        columns = (torch.arange(w) + offsets[1]).clamp(0, w - 1)
        if self.flips is not None:
            columns = torch.where(self.flips[:, None], columns.flip(1), columns)
        index = torch.arange(n)[:, None, None]
        moved = images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2)


def drawn(count: int, most: int, flip: bool, generator: torch.Generator) -> Moves:
    """Shifts by up to `most` pixels along both axes, and flips of half of `count` images."""
    offsets = torch.randint(-most, most + 1, (2, count, 1), generator=generator) if most else None
    flips = torch.rand(count, generator=generator) < 0.5 if flip else None
    return Moves(offsets, flips)


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `most` pixels along both axes, edges repeated: (N, C, H, W)."""
    return drawn(len(images), most, False, generator)(images)


def in_mosaics(images: Tensor, targets: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W), a share of which, by chance, have become one quarter of a mosaic with three others.

    The three are of other targets as far as the batch has such, so that one quarter alone is of an image's own. Halved,
    all four places alike; fewer than four images stay as they are.

    Args:
        images: of a batch.
        targets: (N,) int64.
        share: in [0, 1].
        generator: on the CPU; one number is drawn from it, however many images there are.
    """
    own = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
    n, _, height, width = images.shape
    chosen = (torch.rand(n, generator=own) < share).nonzero()[:, 0]
    if n < 4 or not len(chosen):
        return images
    wish = torch.rand(n, n, generator=own) + (targets[:, None] == targets[None])
    others = wish.fill_diagonal_(torch.inf)[chosen].argsort(1)[:, :3]
    places = torch.rand(len(chosen), 4, generator=own).argsort(1)
    four = torch.cat([chosen[:, None], others], 1).gather(1, places)
    halves = F.interpolate(images, (-(-height // 2), -(-width // 2)), mode="area")[four]
    rows = torch.cat([torch.cat([halves[:, i], halves[:, i + 1]], 3) for i in (0, 2)], 2)
    return images.index_copy(0, chosen, rows[..., :height, :width])

"""Random shifts and flips, drawn once and made on images and on their regions alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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

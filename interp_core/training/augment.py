"""Random shifts, flips and crops, drawn once and made on images and on their regions alike; mosaics of images alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STRETCH = 1.25  # most that a crop changes proportions


@dataclass(frozen=True)
class Moves:
    """How each of n images is moved.

    Attributes:
        offsets: (2, n, 1) int64, rows and columns of pixels; None for no shift.
        flips: (n,) bool, which are mirrored left to right after that; None for none.
        boxes: (n, 4), top, left, height and width of what is then cut out and shown as large as the image was, as
            shares of its sides, in [0, 1]; None for no crop.
    """

    offsets: Tensor | None = None
    flips: Tensor | None = None
    boxes: Tensor | None = None

    def of(self, which: Tensor) -> Moves:
        """Those of some images, (m,) int64."""
        return Moves(
            None if self.offsets is None else self.offsets[:, which],
            None if self.flips is None else self.flips[which],
            None if self.boxes is None else self.boxes[which],
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Each image (N, C, H, W) moved, edges repeated: one gather; crops are sampled bilinearly."""
        moved = self._gathered(images)
        return moved if self.boxes is None else resampled(moved, self.boxes)

    def _gathered(self, images: Tensor) -> Tensor:
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


def drawn(count: int, most: int, flip: bool, generator: torch.Generator, crop: float = 1.0) -> Moves:
    """Shifts by up to `most` pixels, flips of half of `count` images, crops of at least `crop` of their area."""
    offsets = torch.randint(-most, most + 1, (2, count, 1), generator=generator) if most else None
    flips = torch.rand(count, generator=generator) < 0.5 if flip else None
    boxes = boxes_drawn(count, crop, generator) if crop < 1 else None
    return Moves(offsets, flips, boxes)


def boxes_drawn(count: int, least: float, generator: torch.Generator) -> Tensor:
    """Boxes (count, 4), top, left, height and width in [0, 1], of an area between `least` and 1, anywhere.

    Width is to height, in shares of the image's sides, as 0.8 to 1.25, where the image is large enough for it.
    """
    area, ratio, top, left = torch.rand(4, count, generator=generator)
    area, ratio = least + (1 - least) * area, STRETCH ** (2 * ratio - 1)
    height, width = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
    return torch.stack([top * (1 - height), left * (1 - width), height, width], 1)


def resampled(images: Tensor, boxes: Tensor) -> Tensor:
    """What is in each image's box (N, 4), as large as the image (N, C, H, W) was; a mask stays in its range.

    A box of the whole image leaves it as it is but for rounding.
    """
    top, left, height, width = boxes.to(images).unbind(1)
    none = torch.zeros_like(top)
    across = torch.stack([width, none, 2 * left + width - 1], 1)
    down = torch.stack([none, height, 2 * top + height - 1], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


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

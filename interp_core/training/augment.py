"""Random shifts, flips, crops and mosaics of training images.

Shifts, flips and crops are drawn once and applied to the images and to their regions alike. Mosaics are for images
without regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_STRETCH = 1.25  # largest change of proportions by a crop


@dataclass(frozen=True)
class Moves:
    """Shifts, flips and crops of n images.

    Attributes:
        offsets: (2, n, 1) int64, shift by rows and by columns, in pixels; None for no shift.
        flips: (n,) bool, true where the shifted image is mirrored left to right; None for no flip.
        boxes: (n, 4), top, left, height and width of the crop, as shares of the sides, in [0, 1]. The crop is resized
            to the size of the image. None for no crop.
    """

    offsets: Tensor | None = None
    flips: Tensor | None = None
    boxes: Tensor | None = None

    def select(self, indices: Tensor) -> Moves:
        """Return the moves of some images, (m,) int64."""
        return Moves(
            None if self.offsets is None else self.offsets[:, indices],
            None if self.flips is None else self.flips[indices],
            None if self.boxes is None else self.boxes[indices],
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Move images (N, C, H, W), with edges repeated; crops are sampled bilinearly."""
        images = self._shift_and_flip(images)
        return images if self.boxes is None else crop_and_resize(images, self.boxes)

    def _shift_and_flip(self, images: Tensor) -> Tensor:
        if self.offsets is None and self.flips is None:
            return images
        n, _, h, w = images.shape
        offsets = torch.zeros(2, n, 1, dtype=torch.int64) if self.offsets is None else self.offsets
        rows = (torch.arange(h) + offsets[0]).clamp(0, h - 1)
        columns = (torch.arange(w) + offsets[1]).clamp(0, w - 1)
        if self.flips is not None:
            columns = torch.where(self.flips[:, None], columns.flip(1), columns)
        index = torch.arange(n)[:, None, None]
        channels_last = images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
        return channels_last.permute(0, 3, 1, 2)


def sample_moves(count: int, most: int, flip: bool, generator: torch.Generator, crop: float = 1.0) -> Moves:
    """Draw moves for `count` images.

    Args:
        count: number of images.
        most: largest shift in pixels; 0 for none.
        flip: whether half of the images, by chance, are mirrored.
        generator: on the CPU.
        crop: least share of the area that a crop shows; 1 for no crops.
    """
    offsets = torch.randint(-most, most + 1, (2, count, 1), generator=generator) if most else None
    flips = torch.rand(count, generator=generator) < 0.5 if flip else None
    boxes = sample_boxes(count, crop, generator) if crop < 1 else None
    return Moves(offsets, flips, boxes)


def sample_boxes(count: int, least: float, generator: torch.Generator) -> Tensor:
    """Draw boxes (count, 4), top, left, height and width in [0, 1], of an area between `least` and 1.

    The ratio of width to height, in shares of the image's sides, is 0.8 to 1.25, as far as the image is large enough.
    """
    area, ratio, top, left = torch.rand(4, count, generator=generator)
    area, ratio = least + (1 - least) * area, MAX_STRETCH ** (2 * ratio - 1)
    height, width = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
    return torch.stack([top * (1 - height), left * (1 - width), height, width], 1)


def crop_and_resize(images: Tensor, boxes: Tensor) -> Tensor:
    """Crop each image (N, C, H, W) to its box (N, 4) and resize the crop to the size of the image.

    A box of the whole image leaves it unchanged up to rounding. A mask stays in its range.
    """
    top, left, height, width = boxes.to(images).unbind(1)
    zero = torch.zeros_like(top)
    across = torch.stack([width, zero, 2 * left + width - 1], 1)
    down = torch.stack([zero, height, 2 * top + height - 1], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift each image (N, C, H, W) by up to `most` pixels along both axes, with edges repeated."""
    return sample_moves(len(images), most, False, generator)(images)


def make_mosaics(images: Tensor, targets: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Turn a random share of the images (N, C, H, W) into one quarter of a mosaic with three others.

    The three others have different targets as far as the batch has such, so that only one quarter shows the image's
    class. All four images are halved, and their positions are random. A batch of fewer than four images is returned
    unchanged.

    Args:
        images: images of a batch.
        targets: (N,) int64.
        share: in [0, 1].
        generator: on the CPU; one number is drawn from it, however many images there are.
    """
    batch_generator = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
    n, _, height, width = images.shape
    selected = (torch.rand(n, generator=batch_generator) < share).nonzero()[:, 0]
    if n < 4 or not len(selected):
        return images
    # Partners with the same target rank last, and the image itself never.
    rank = torch.rand(n, n, generator=batch_generator) + (targets[:, None] == targets[None])
    partners = rank.fill_diagonal_(torch.inf)[selected].argsort(1)[:, :3]
    positions = torch.rand(len(selected), 4, generator=batch_generator).argsort(1)
    quarters = torch.cat([selected[:, None], partners], 1).gather(1, positions)
    halves = F.interpolate(images, (-(-height // 2), -(-width // 2)), mode="area")[quarters]
    rows = torch.cat([torch.cat([halves[:, i], halves[:, i + 1]], 3) for i in (0, 2)], 2)
    return images.index_copy(0, selected, rows[..., :height, :width])

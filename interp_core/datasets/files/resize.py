"""From a picture of any size to the network's size: one rule for pixels, masks and boxes.

A `Geometry` says which part of the picture lands where. Pixels are resampled with antialiasing, as torchvision
and timm do on files; evidence is rounded outwards, so that what covered the object covers it afterwards: an output
pixel is evidence where any evidence falls on it. Known limit: thin evidence so grows by up to one pixel on each side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from interp_core.datasets.records import Box

Resize = Literal["crop", "squash", "pad"]
Filter = Literal["bicubic", "bilinear", "lanczos", "hamming", "nearest"]
# Bounds of evidence this near to a whole pixel are meant to lie on it.
CLOSE = 1e-6
# Filters that torch has too, how far from a whole pixel is none, and how much larger than what is wanted the whole
# picture may be.
TORCH = frozenset({"bicubic", "bilinear"})
WHOLE, WASTE = 1e-3, 4


@dataclass(frozen=True)
class Geometry:
    """Which part of a picture lands where.

    Attributes:
        source: (width, height) of the picture.
        part: x0, y0, x1, y1 of the part that is shown, in pixels of the picture.
        size: side of the square that comes out.
        place: left, top, right, bottom of the part in it, whole pixels.
        flipped: whether it is mirrored left to right, last.
    """

    source: tuple[int, int]
    part: tuple[float, float, float, float]
    size: int
    place: tuple[int, int, int, int]
    flipped: bool = False

    def flip(self) -> Geometry:
        """The same, mirrored."""
        return replace(self, flipped=not self.flipped)

    def of(self, width: int, height: int) -> Geometry:
        """The same for a picture of another size that shows the same scene, such as a mask."""
        fx, fy = width / self.source[0], height / self.source[1]
        x0, y0, x1, y1 = self.part
        return replace(self, source=(width, height), part=(x0 * fx, y0 * fy, x1 * fx, y1 * fy))

    def picture(self, image: Image.Image, filter_: Filter = "bicubic", fill: int = 128) -> np.ndarray:
        """Pixels (3, size, size) uint8 of a picture of mode "L" or "RGB".

        Args:
            image: of this geometry's size.
            filter_: how it is resampled.
            fill: value around a picture that does not fill the square.
        """
        left, top, right, bottom = self.place
        pixels = _resampled(image, self.part, (right - left, bottom - top), filter_)
        channels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self.flipped:
            left, right, channels = self.size - right, self.size - left, channels[..., ::-1]
        out = np.full((3, self.size, self.size), fill, np.uint8)
        out[:, top:bottom, left:right] = channels
        return out

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Evidence (size, size) bool of a mask (height, width) of bool, of any size that shows the same scene."""
        other = self.of(mask.shape[1], mask.shape[0])
        left, top, right, bottom = self.place
        x0, y0, x1, y1 = other.part
        rows = _touched(mask.astype(bool), y0, y1, bottom - top)
        out = np.zeros((self.size, self.size), bool)
        out[top:bottom, left:right] = _touched(rows.T, x0, x1, right - left).T
        return out[:, ::-1] if self.flipped else out

    def box(self, box: Box, size: tuple[int, int] | None = None) -> tuple[int, int, int, int] | None:
        """Columns and rows x0, y0, x1, y1 (half-open) that a box covers; None where it is not shown.

        Args:
            box: in pixels of a picture.
            size: (width, height) of that picture where it is not this geometry's.
        """
        other = self if size is None else self.of(*size)
        px0, py0, px1, py1 = other.part
        left, top, right, bottom = self.place
        columns = _span(box.x0, box.x1, px0, px1, left, right)
        rows = _span(box.y0, box.y1, py0, py1, top, bottom)
        if columns is None or rows is None:
            return None
        start, stop = columns
        if self.flipped:
            start, stop = self.size - stop, self.size - start
        return start, rows[0], stop, rows[1]

    def boxes(self, boxes: Sequence[Box], size: tuple[int, int] | None = None) -> np.ndarray:
        """Evidence (size, size) bool: all that any of the boxes covers; see `box`."""
        out = np.zeros((self.size, self.size), bool)
        for place in (self.box(box, size) for box in boxes):
            if place is not None:
                x0, y0, x1, y1 = place
                out[y0:y1, x0:x1] = True
        return out


def _resampled(
    image: Image.Image, part: tuple[float, float, float, float], size: tuple[int, int], filter_: Filter
) -> np.ndarray:
    """Pixels (height, width) or (height, width, 3) uint8 of a part of a picture, resampled to `size` (width, height).

    Where the part lies on whole pixels of the resampled picture, torch resamples all of it: four times as fast as
    Pillow and, but for rounding, the same.
    """
    (width, height), (x0, y0, x1, y1) = size, part
    fx, fy = width / (x1 - x0), height / (y1 - y0)
    exact = image.width * fx, image.height * fy, x0 * fx, y0 * fy
    whole_width, whole_height, left, top = (round(value) for value in exact)
    whole = all(abs(value - round(value)) < WHOLE for value in exact)
    if filter_ not in TORCH or not whole or whole_width * whole_height > WASTE * width * height:
        return np.asarray(image.resize(size, Image.Resampling[filter_.upper()], box=part))
    pixels = torch.from_numpy(np.array(image))
    planes = pixels[None, None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[None]
    made = F.interpolate(planes, (whole_height, whole_width), mode=filter_, antialias=True, align_corners=False)
    rows = made[0].permute(1, 2, 0)[top : top + height, left : left + width].numpy()
    return rows[..., 0] if pixels.ndim == 2 else rows


def geometry_of(source: tuple[int, int], size: int, resize: Resize = "crop", crop_pct: float = 1.0) -> Geometry:
    """How pictures become squares.

    Args:
        source: (width, height) of the picture.
        size: side of the square.
        resize: "crop": the shorter side becomes size / crop_pct, then the centre is cut out, as torchvision and timm do
            (the same pixels but for rounding, in one resampling); "squash": both sides become `size`; "pad": the
            longer side becomes `size`.
        crop_pct: share of the shorter side that "crop" keeps.
    """
    width, height = source
    if resize == "squash":
        return Geometry(source, (0, 0, width, height), size, (0, 0, size, size))
    if resize == "pad":
        scale = size / max(source)
        w, h = (min(size, max(1, round(side * scale))) for side in source)
        left, top = (size - w) // 2, (size - h) // 2
        return Geometry(source, (0, 0, width, height), size, (left, top, left + w, top + h))
    shorter = max(size, math.floor(size / crop_pct))
    w, h = (shorter if side == min(source) else int(shorter * side / min(source)) for side in source)
    left, top = round((w - size) / 2), round((h - size) / 2)
    fx, fy = width / w, height / h
    part = (left * fx, top * fy, min((left + size) * fx, width), min((top + size) * fy, height))
    return Geometry(source, part, size, (0, 0, size, size))


def _span(low: float, high: float, start: float, stop: float, left: int, right: int) -> tuple[int, int] | None:
    """Whole pixels of left..right that touch low..high, where start..stop of the picture lands on left..right."""
    scale = (right - left) / (stop - start)
    first = math.floor(left + (low - start) * scale + CLOSE)
    last = math.ceil(left + (high - start) * scale - CLOSE)
    first, last = max(first, left), min(last, right)
    return (first, last) if first < last else None


def _touched(mask: np.ndarray, start: float, stop: float, count: int) -> np.ndarray:
    """Along the first axis: whether anything is True in each of `count` equal parts of start..stop, (count, ...)."""
    edges = start + (stop - start) / count * np.arange(count + 1)
    low = np.floor(edges[:-1] + CLOSE).astype(int).clip(0, len(mask) - 1)
    high = np.ceil(edges[1:] - CLOSE).astype(int).clip(low + 1, len(mask))
    sums = np.concatenate([np.zeros((1, *mask.shape[1:]), np.int32), mask.cumsum(0, dtype=np.int32)])
    return np.asarray(sums[high] > sums[low])


@dataclass(frozen=True)
class TimmPreprocessing:
    """What a network of timm wants of its images.

    Attributes:
        size: side in pixels.
        crop_pct: share of the shorter side that is kept.
        interpolation: how images are resampled.
        mean: per channel, in [0, 1] units.
        std: per channel, in [0, 1] units.
    """

    size: int
    crop_pct: float
    interpolation: Filter
    mean: tuple[float, ...]
    std: tuple[float, ...]


def timm_preprocessing(backbone: Any) -> TimmPreprocessing:
    """What a backbone was trained with, by `timm.data.resolve_data_config`.

    Args:
        backbone: a network of timm, or the name of one.
    """
    import timm
    from timm.data import resolve_data_config

    if isinstance(backbone, str):
        given = timm.get_pretrained_cfg(backbone)
        found = resolve_data_config(pretrained_cfg=given.to_dict() if given is not None else {})
    else:
        found = resolve_data_config(model=backbone)
    return TimmPreprocessing(
        found["input_size"][-1], found["crop_pct"], found["interpolation"], tuple(found["mean"]), tuple(found["std"])
    )

"""Resize images, masks and boxes to the input size of a network, all by one rule.

A `Geometry` maps a part of the image to a part of the output. Pixels are resampled with antialiasing, as torchvision
and timm do. Evidence is rounded outwards: an output pixel is evidence if any evidence falls on it, so a box that covers
the object still covers it afterwards. Known limit: thin evidence grows by up to one pixel on each side.
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
# Bounds of evidence this close to a whole pixel are taken to lie on it.
TOLERANCE = 1e-6
# torch resamples if it has the filter, if all bounds are this close to whole pixels of the resampled image, and if that
# image has at most so many times the pixels of the part.
TORCH_FILTERS = frozenset({"bicubic", "bilinear"})
TORCH_TOLERANCE, TORCH_MAX_WASTE = 1e-3, 4


@dataclass(frozen=True)
class Geometry:
    """Mapping of a part of an image to a part of a square.

    Attributes:
        source: (width, height) of the image.
        part: x0, y0, x1, y1 of the part that is shown, in pixels of the image.
        size: side of the square.
        place: left, top, right, bottom of the part in the square, in whole pixels.
        flipped: whether the square is mirrored left to right, as the last step.
    """

    source: tuple[int, int]
    part: tuple[float, float, float, float]
    size: int
    place: tuple[int, int, int, int]
    flipped: bool = False

    def flip(self) -> Geometry:
        """Return the mirrored mapping."""
        return replace(self, flipped=not self.flipped)

    def for_size(self, width: int, height: int) -> Geometry:
        """Return the mapping for an image of another size that shows the same scene, such as a mask."""
        fx, fy = width / self.source[0], height / self.source[1]
        x0, y0, x1, y1 = self.part
        return replace(self, source=(width, height), part=(x0 * fx, y0 * fy, x1 * fx, y1 * fy))

    def resize_image(self, image: Image.Image, filter_: Filter = "bicubic", fill: int = 128) -> np.ndarray:
        """Resize an image of mode "L" or "RGB" to pixels (3, size, size) uint8.

        Args:
            image: image of size `source`.
            filter_: filter that resamples it.
            fill: value around an image that does not fill the square.
        """
        left, top, right, bottom = self.place
        pixels = _resample(image, self.part, (right - left, bottom - top), filter_)
        channels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self.flipped:
            left, right, channels = self.size - right, self.size - left, channels[..., ::-1]
        square = np.full((3, self.size, self.size), fill, np.uint8)
        square[:, top:bottom, left:right] = channels
        return square

    def resize_mask(self, mask: np.ndarray) -> np.ndarray:
        """Resize a mask (height, width) bool, of any size that shows the same scene, to (size, size) bool."""
        geometry = self.for_size(mask.shape[1], mask.shape[0])
        left, top, right, bottom = self.place
        x0, y0, x1, y1 = geometry.part
        rows = _any_in_bins(mask.astype(bool), y0, y1, bottom - top)
        square = np.zeros((self.size, self.size), bool)
        square[top:bottom, left:right] = _any_in_bins(rows.T, x0, x1, right - left).T
        return square[:, ::-1] if self.flipped else square

    def resize_box(self, box: Box, size: tuple[int, int] | None = None) -> tuple[int, int, int, int] | None:
        """Return columns and rows x0, y0, x1, y1 (half-open) that a box covers, or None if it is not shown.

        Args:
            box: box in pixels of an image.
            size: (width, height) of that image, if it is not `source`.
        """
        geometry = self if size is None else self.for_size(*size)
        px0, py0, px1, py1 = geometry.part
        left, top, right, bottom = self.place
        columns = _span(box.x0, box.x1, px0, px1, left, right)
        rows = _span(box.y0, box.y1, py0, py1, top, bottom)
        if columns is None or rows is None:
            return None
        start, stop = columns
        if self.flipped:
            start, stop = self.size - stop, self.size - start
        return start, rows[0], stop, rows[1]

    def resize_boxes(self, boxes: Sequence[Box], size: tuple[int, int] | None = None) -> np.ndarray:
        """Return the evidence (size, size) bool that any of the boxes covers; see `resize_box`."""
        square = np.zeros((self.size, self.size), bool)
        for corners in (self.resize_box(box, size) for box in boxes):
            if corners is not None:
                x0, y0, x1, y1 = corners
                square[y0:y1, x0:x1] = True
        return square


def _resample(
    image: Image.Image, part: tuple[float, float, float, float], size: tuple[int, int], filter_: Filter
) -> np.ndarray:
    """Resample a part of an image to `size` (width, height), as (height, width) or (height, width, 3) uint8.

    If the part lies on whole pixels of the resampled image, torch resamples the whole image. This is four times as fast
    as Pillow and the same except for rounding.
    """
    (width, height), (x0, y0, x1, y1) = size, part
    fx, fy = width / (x1 - x0), height / (y1 - y0)
    exact = image.width * fx, image.height * fy, x0 * fx, y0 * fy
    full_width, full_height, left, top = (round(value) for value in exact)
    on_pixels = all(abs(value - round(value)) < TORCH_TOLERANCE for value in exact)
    is_wasteful = full_width * full_height > TORCH_MAX_WASTE * width * height
    if filter_ not in TORCH_FILTERS or not on_pixels or is_wasteful:
        return np.asarray(image.resize(size, Image.Resampling[filter_.upper()], box=part))
    pixels = torch.from_numpy(np.array(image))
    planes = pixels[None, None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)[None]
    resized = F.interpolate(planes, (full_height, full_width), mode=filter_, antialias=True, align_corners=False)
    cropped: np.ndarray = resized[0].permute(1, 2, 0)[top : top + height, left : left + width].numpy()
    return cropped[..., 0] if pixels.ndim == 2 else cropped


def geometry_of(source: tuple[int, int], size: int, resize: Resize = "crop", crop_pct: float = 1.0) -> Geometry:
    """Return how an image becomes a square.

    Args:
        source: (width, height) of the image.
        size: side of the square.
        resize: "crop": the shorter side becomes size / crop_pct and the centre is cut out, as in torchvision and timm
            (the same pixels except for rounding, in one resampling). "squash": both sides become `size`. "pad": the
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
    """Return the whole pixels of left..right that touch low..high, if start..stop is mapped to left..right."""
    scale = (right - left) / (stop - start)
    first = math.floor(left + (low - start) * scale + TOLERANCE)
    last = math.ceil(left + (high - start) * scale - TOLERANCE)
    first, last = max(first, left), min(last, right)
    return (first, last) if first < last else None


def _any_in_bins(mask: np.ndarray, start: float, stop: float, count: int) -> np.ndarray:
    """Return whether anything is True in each of `count` equal bins of start..stop along the first axis."""
    edges = start + (stop - start) / count * np.arange(count + 1)
    low = np.floor(edges[:-1] + TOLERANCE).astype(int).clip(0, len(mask) - 1)
    high = np.ceil(edges[1:] - TOLERANCE).astype(int).clip(low + 1, len(mask))
    sums = np.concatenate([np.zeros((1, *mask.shape[1:]), np.int32), mask.cumsum(0, dtype=np.int32)])
    return np.asarray(sums[high] > sums[low])


@dataclass(frozen=True)
class TimmPreprocessing:
    """Preprocessing that a network of timm was trained with.

    Attributes:
        size: side in pixels.
        crop_pct: share of the shorter side that is kept.
        interpolation: filter that resamples images.
        mean: mean per channel, in [0, 1] units.
        std: standard deviation per channel, in [0, 1] units.
    """

    size: int
    crop_pct: float
    interpolation: Filter
    mean: tuple[float, ...]
    std: tuple[float, ...]


def timm_preprocessing(backbone: Any) -> TimmPreprocessing:
    """Return the preprocessing of a backbone, by `timm.data.resolve_data_config`.

    Args:
        backbone: network of timm, or its name.
    """
    import timm

    data: Any = timm.data
    if isinstance(backbone, str):
        pretrained: Any = timm.get_pretrained_cfg(backbone)
        config = data.resolve_data_config(pretrained_cfg=pretrained.to_dict() if pretrained is not None else {})
    else:
        config = data.resolve_data_config(model=backbone)
    return TimmPreprocessing(
        config["input_size"][-1],
        config["crop_pct"],
        config["interpolation"],
        tuple(config["mean"]),
        tuple(config["std"]),
    )

"""Masks that an annotation file draws itself: polygons, and run lengths, plain or compressed.

Polygons mark the pixels whose centre lies inside, or their bounding box if there is none. Runs count pixels column by
column, and zeros and ones in turn. Compressed runs are COCO's text form: five bits a letter, each run after the second
as its difference to the one before the last.
Source: cocodataset.org, "Data format", and maskApi.c of cocoapi for the compressed form.
Known limit: holes inside a polygon are not cut out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interp_core.datasets.files.pixels import MOST_PIXELS
from interp_core.datasets.records import MaskFile

MIN_CORNERS = 3


@dataclass(frozen=True, slots=True, repr=False)
class ShapeMask(MaskFile):
    """Evidence that is drawn, not read from an image; `path` is the annotation file.

    Attributes:
        polygons: corners of each polygon, as float32 x, y, x, y, ... in pixels.
        runs: run lengths as uint32, column by column, beginning with zeros; b"" for polygons.
        size: (width, height) that the shape refers to; None for the size of the image file.
    """

    polygons: tuple[bytes, ...] = ()
    runs: bytes = b""
    size: tuple[int, int] | None = None

    def __repr__(self) -> str:
        """Name the content by its hash, since it may be long."""
        content = hashlib.blake2b(b"|".join((*self.polygons, self.runs)), digest_size=8).hexdigest()
        return f"ShapeMask(path={self.path!r}, target={self.target!r}, size={self.size!r}, content={content!r})"

    def draw(self, size: tuple[int, int]) -> np.ndarray:
        """Return the marked pixels (height, width) bool.

        Args:
            size: (width, height) of the image file, used where the shape does not say what it refers to.
        """
        width, height = self.size or size
        if self.runs:
            runs = np.frombuffer(self.runs, np.uint32)
            return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
        mask = np.zeros((height, width), bool)
        for polygon in self.polygons:
            mask |= _draw_polygon(np.frombuffer(polygon, np.float32).reshape(-1, 2), width, height)
        return mask


def shape_of(segmentation: Any, path: Path, target: int | None, size: tuple[int, int] | None) -> ShapeMask:
    """Read COCO's `segmentation`.

    Args:
        segmentation: list of polygons, or a dict with counts and size (height, width).
        path: the annotation file.
        target: class that the shape is evidence for.
        size: (width, height) of the image that polygons refer to, if it is known.

    Raises:
        ValueError: it is neither, or its numbers do not fit. The text is the reason.
    """
    if isinstance(segmentation, dict):
        runs, run_size = _runs(segmentation)
        return ShapeMask(path, target=target, runs=runs, size=run_size)
    if not isinstance(segmentation, list | tuple):
        raise ValueError("the segmentation is neither polygons nor run lengths")
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"polygons on {size[0]} x {size[1]} pixels cannot be drawn")
    polygons = [segmentation] if segmentation and not isinstance(segmentation[0], list | tuple) else segmentation
    return ShapeMask(path, target=target, polygons=tuple(map(_corners, polygons)), size=size)


def decode_counts(text: str) -> list[int]:
    """Decode the compressed run lengths of COCO.

    Raises:
        ValueError: the text is cut short or holds letters that it must not.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        code = letter - 48
        if not 0 <= code < 64:
            raise ValueError("the compressed run lengths hold a letter that they must not")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the compressed run lengths are cut short")
    return runs


def _runs(segmentation: dict[str, Any]) -> tuple[bytes, tuple[int, int]]:
    """Return run lengths as uint32 and (width, height)."""
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    try:
        height, width = (int(side) for side in size)  # type: ignore[union-attr]
        numbers = decode_counts(counts) if isinstance(counts, str) else [int(run) for run in counts]  # type: ignore[union-attr]
    except (TypeError, OverflowError) as error:
        raise ValueError("the run lengths lack counts, or size (height, width)") from error
    if not 0 < height * width <= MOST_PIXELS or min(height, width) < 1:
        raise ValueError(f"run lengths of {width} x {height} pixels cannot be drawn")
    if any(run < 0 for run in numbers) or sum(numbers) != height * width:
        raise ValueError(f"the run lengths do not fill {width} x {height} pixels")
    return np.array(numbers, np.uint32).tobytes(), (width, height)


def _corners(polygon: Any) -> bytes:
    try:
        corners = np.array([float(value) for value in polygon], np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("a polygon holds something else than numbers") from error
    if len(corners) < 2 * MIN_CORNERS or len(corners) % 2 or not np.isfinite(corners).all():
        raise ValueError(f"a polygon needs x and y of at least {MIN_CORNERS} corners")
    return corners.tobytes()


def _draw_polygon(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    """Draw a polygon of corners (n, 2) into a mask (height, width) bool."""
    from skimage.draw import polygon

    mask = np.zeros((height, width), bool)
    limited = corners.clip(-(2.0**20), 2.0**20).astype(np.float64)
    rows, columns = polygon(limited[:, 1] - 0.5, limited[:, 0] - 0.5, (height, width))  # type: ignore[no-untyped-call]
    if len(rows):
        mask[rows, columns] = True
        return mask
    (x0, y0), (x1, y1) = np.floor(limited.min(0)), np.ceil(limited.max(0))
    mask[int(max(y0, 0)) : int(max(y1, y0 + 1, 0)), int(max(x0, 0)) : int(max(x1, x0 + 1, 0))] = True
    return mask

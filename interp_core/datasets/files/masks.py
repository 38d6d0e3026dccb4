"""Read the pixels that a mask marks, however it was saved.

Without `values`, every grey value or palette index above 0 is evidence, with these exceptions:

* Lossy formats such as JPEG blur values: evidence is above a share of the brightest value. Given values are compared
  by which of them, black, white or another frequent colour is nearest.
* Transparent pixels are none. If the opaque ones have a single colour, they are the evidence, whatever the colour.
* In a palette whose first colour is not black although black is used, black is the background.
* In colours without any black, the colour of the border is the background.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from interp_core.datasets.files.images import UnreadableImage, mask_labels, open_image
from interp_core.datasets.files.pixels import MOST_PIXELS
from interp_core.datasets.files.shapes import ShapeMask
from interp_core.datasets.records import MaskFile

LOSSY_FORMATS = frozenset({"JPEG", "MPO", "AVIF"})
# Share of the brightest value above which a pixel of a lossy mask is evidence; noise around a bright area stays below.
LOSSY_THRESHOLD = 0.4
# Masks of 0 and 1 stay this dark, and their noise is below 1.
DARK = 32
FREQUENT_SHARE = 0.05
BORDER_SHARE = 0.9
OPAQUE = 128


def read_evidence(mask: MaskFile, size: tuple[int, int], *, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Return the pixels that a mask marks, (height, width) bool.

    Args:
        mask: the mask.
        size: (width, height) of its image, for shapes that do not say what they refer to.
        most_pixels: larger masks are refused before they are decoded.

    Raises:
        UnreadableImage: the file does not exist, cannot be decoded, or is DICOM.
    """
    if isinstance(mask, ShapeMask):
        return mask.draw(size)
    with open_image(mask.path, most_pixels) as (image, file):
        if image is None:
            raise UnreadableImage(mask.path, "a mask must be an image such as PNG, not DICOM")
        file.seek(0)
        is_lossy = image.format in LOSSY_FORMATS or (image.format == "WEBP" and file.read(16)[12:] == b"VP8 ")
        if is_lossy:
            colours = np.asarray(image.convert("RGB"))
            return _lossy_evidence(colours, mask.values)
        labels = mask_labels(image)
        if mask.values is not None:
            return np.asarray(np.isin(labels, mask.values))
        return _evidence(image, labels)


def _evidence(image: Image.Image, labels: np.ndarray) -> np.ndarray:
    """Return the pixels that a lossless mask marks, given its labels (height, width)."""
    opaque = _opaque(image)
    if opaque is not None and opaque.any() and not opaque.all():
        is_one_colour = (labels[opaque] == labels[opaque][0]).all()
        return np.asarray(opaque if is_one_colour else opaque & (labels > 0))
    if image.mode == "P" and (colours := _palette_colours(image, labels)) is not None:
        return np.asarray(colours > 0)
    if labels.size and labels.min() > 0 and labels.max() > 255 and (border := _border_label(labels)) is not None:
        return np.asarray(labels != border)
    return np.asarray(labels > 0)


def _opaque(image: Image.Image) -> np.ndarray | None:
    """Return which pixels are opaque (height, width) bool, or None for a format without transparency."""
    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA") and "transparency" not in image.info:
        return None
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        return None
    return np.asarray(image.convert("RGBA").getchannel("A")) >= OPAQUE


def _palette_colours(image: Image.Image, labels: np.ndarray) -> np.ndarray | None:
    """Return the brightness (height, width) of palette colours where black is not the first, although it is used."""
    palette = np.asarray(image.convert("RGB")).max(-1)
    first = palette[labels == 0]
    return palette if len(first) and first[0] > 0 and (palette == 0).any() else None


def _border_label(labels: np.ndarray) -> int | None:
    """Return the label of nearly the whole border, or None."""
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    values, counts = np.unique(border, return_counts=True)
    return int(values[counts.argmax()]) if counts.max() >= BORDER_SHARE * len(border) else None


def _lossy_evidence(colours: np.ndarray, values: tuple[int, ...] | None) -> np.ndarray:
    """Return the pixels that a lossy mask of colours (height, width, 3) marks."""
    if values is None:
        brightness = colours.max(-1)
        most = int(brightness.max(initial=0))
        return np.asarray(brightness > (0 if most < DARK else LOSSY_THRESHOLD * most))
    wanted = [_colour_of(value) for value in values]
    others = [colour for colour in [(0, 0, 0), (255, 255, 255), *_frequent(colours)] if colour not in wanted]
    pixels = colours.astype(np.int16)
    distances = [np.abs(pixels - np.array(colour, np.int16)).sum(-1) for colour in (*wanted, *others)]
    return np.asarray(np.argmin(distances, 0) < len(wanted))


def _colour_of(value: int) -> tuple[int, int, int]:
    """Return the colour of a label: grey, or red + 256 green + 65536 blue."""
    return (value, value, value) if value < 256 else (value & 255, value >> 8 & 255, value >> 16 & 255)


def _frequent(colours: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the colours that cover at least `FREQUENT_SHARE` of a mask."""
    packed = colours.astype(np.int64) @ np.array([1, 256, 65536])
    values, counts = np.unique(packed, return_counts=True)
    frequent = values[counts >= FREQUENT_SHARE * packed.size].tolist()
    return [(value & 255, value >> 8 & 255, value >> 16 & 255) for value in frequent]

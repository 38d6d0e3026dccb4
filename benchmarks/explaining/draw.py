"""Draw a map over the whole image that a user gave, with boxes around its top regions and the class beneath.

The network sees a part of the image at its own size. The map is drawn on that part, at the image's size, and the rest
of the image is left dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from interp_core.datasets.files.resize import Geometry
from interp_core.pictures.overlay import overlay

MOST_SIDE, LEAST_SIDE = 800, 320  # of a drawn image, in pixels
TEXT = 26  # height of the line beneath, in pixels
BOX, EDGE, INK, PAPER = (86, 180, 233), (0, 0, 0), (34, 34, 34), (255, 255, 255)

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the image


def display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) at which an image is drawn.

    >>> display_size((4000, 2000)), display_size((64, 32)), display_size((500, 400))
    ((800, 400), (320, 160), (500, 400))
    """
    scale = min(MOST_SIDE / max(size), max(1.0, LEAST_SIDE / max(size)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def to_display(image: Image.Image) -> Image.Image:
    """Resize an image to the size at which it is drawn, in colour."""
    return image.convert("RGB").resize(display_size(image.size), Image.Resampling.LANCZOS)


def to_image_box(box: tuple[int, int, int, int], geometry: Geometry) -> Box:
    """Carry a box (left, top, right, bottom) from the network's pixels to those of the image."""
    x0, y0, x1, y1 = geometry.part
    fx, fy = (x1 - x0) / geometry.size, (y1 - y0) / geometry.size
    left, top, right, bottom = box
    return x0 + left * fx, y0 + top * fy, x0 + right * fx, y0 + bottom * fy


def draw_overlay(
    image: Image.Image, values: np.ndarray, geometry: Geometry, boxes: Sequence[Box], caption: str
) -> Image.Image:
    """Draw the positive part of a map over an image, with boxes and a line of text beneath.

    Args:
        image: upright, of any size.
        values: map (h, w) of the part that the network saw.
        geometry: how the image became the network's.
        boxes: in pixels of the image.
        caption: one line; a longer one is shortened.
    """
    shown = to_display(image)
    size = shown.size
    picture = Image.fromarray(overlay(np.asarray(shown) / 255, spread(values, geometry, size)))
    scale = size[0] / image.size[0], size[1] / image.size[1]
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        corners = [round(value * scale[axis % 2]) for axis, value in enumerate(box)]
        left, top, right, bottom = (
            corners[0],
            corners[1],
            max(corners[2] - 1, corners[0]),
            max(corners[3] - 1, corners[1]),
        )
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=EDGE, width=4)
        draw.rectangle((left, top, right, bottom), outline=BOX, width=2)
    return add_caption(picture, caption)


def spread(values: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    """Resize the positive part of a map (h, w) to the part of an image of `size` (width, height) that was seen."""
    fx, fy = size[0] / geometry.source[0], size[1] / geometry.source[1]
    x0, y0, x1, y1 = (round(edge * factor) for edge, factor in zip(geometry.part, (fx, fy, fx, fy), strict=True))
    shape = max(1, y1 - y0), max(1, x1 - x0)
    part = torch.from_numpy(np.ascontiguousarray(values)).float().clamp(min=0)[None, None]
    resized = F.interpolate(part, shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    whole = np.zeros((size[1], size[0]), np.float32)
    target = whole[y0 : y0 + shape[0], x0 : x0 + shape[1]]
    target[:] = resized[: target.shape[0], : target.shape[1]]
    return whole


def add_caption(picture: Image.Image, caption: str) -> Image.Image:
    """Put a line of text beneath a picture."""
    font = _font()
    canvas = Image.new("RGB", (picture.width, picture.height + TEXT), PAPER)
    canvas.paste(picture)
    text = fit_text(caption, picture.width - 8, font)
    ImageDraw.Draw(canvas).text((4, picture.height + 4), text, fill=INK, font=font)
    return canvas


def fit_text(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """Shorten a text in the middle to a width in pixels; its end, with the number, stays."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    head, _, tail = text.rpartition(" ")
    while head and font.getlength(f"{head}… {tail}") > width:
        head = head[:-1]
    return f"{head.rstrip()}… {tail}" if head else tail


@cache
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 14)

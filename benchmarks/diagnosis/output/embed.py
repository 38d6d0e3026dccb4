"""Embed pictures in a page as data URIs, each at most about 60 kB."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

MOST_BYTES = 60_000
MOST_SIDE = 1200  # pixels
SMALLEST_SIDE = 64
QUALITIES = (88, 75, 60)


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as part of a page.

    Attributes:
        uri: data URI, of a PNG where that is small enough, else of a JPEG.
        width: in pixels, of the file.
        height: in pixels, of the file.
    """

    uri: str
    width: int
    height: int


def embed_picture(path: Path) -> EmbeddedPicture | None:
    """Return the picture of a file as part of a page; None if it cannot be read."""
    try:
        with Image.open(path) as file:
            picture = _on_white(file)
    except (OSError, UnidentifiedImageError, ValueError):
        return None
    kind, content = encode_small(picture)
    return EmbeddedPicture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *picture.size)


def encode_small(picture: Image.Image, most: int = MOST_BYTES) -> tuple[str, bytes]:
    """Encode an RGB picture in at most `most` bytes: first with less quality, then with fewer pixels.

    Returns:
        The kind, "png" or "jpeg", and the content.
    """
    side = min(MOST_SIDE, max(picture.size))
    while True:
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        content = _encode(small, "PNG", optimize=True)
        if len(content) <= most:
            return "png", content
        for quality in QUALITIES:
            content = _encode(small, "JPEG", quality=quality, optimize=True)
            if len(content) <= most or side <= SMALLEST_SIDE:
                return "jpeg", content
        side = round(0.75 * side)


def _encode(picture: Image.Image, form: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")

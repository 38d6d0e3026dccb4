"""Encode pictures as WebP, the format of all pictures of the page."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

QUALITY = 72


def encode_webp(picture: np.ndarray | Image.Image, quality: int = QUALITY) -> bytes:
    """Encode a picture, an array (H, W, 3) in [0, 1] or of pillow."""
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray((255 * np.clip(picture, 0, 1)).round().astype(np.uint8))
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()

"""Encode pictures as PNG, so that the same picture gives the same bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


def encode_png(picture: Figure | Image.Image) -> bytes:
    """Encode a figure or a Pillow image as PNG.

    A figure keeps its own dpi.
    """
    from PIL import Image

    buffer = io.BytesIO()
    if isinstance(picture, Image.Image):
        picture.save(buffer, "PNG")
    else:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        # Not savefig, which follows the user's settings for background, margins and dpi.
        FigureCanvasAgg(picture).print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()

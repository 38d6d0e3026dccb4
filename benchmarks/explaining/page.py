"""index.html: one self-contained page with all explained images, for a phone and a desktop.

The page loads nothing from outside and runs no script. All names pass through jinja2's escaping.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from PIL import Image

from benchmarks.explaining.network import OpenNetwork
from benchmarks.store.atomic import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "index.html"
SIDE, QUALITY = 480, 82  # of embedded pictures
ORIGINS = {
    "fitted": "The map was fitted on this network.",
    "ready-made": "The map is ready-made for these weights.",
    "as attached": "The map is as attached, without a fit: coarser than one from interp-bench fit.",
}


@dataclass(frozen=True)
class PageImage:
    """An image on the page.

    Attributes:
        name: of the image.
        size: its width and height in pixels.
        source: data URI of the image.
        classes: name, probability, data URI of the overlay and number of boxes of each explained class.
    """

    name: str
    size: tuple[int, int]
    source: str
    classes: list[tuple[str, float, str, int]]


def write_page(
    folder: Path,
    opened: OpenNetwork,
    images: Sequence[PageImage],
    total: int,
    unreadable: Mapping[str, str],
    steps: int,
) -> Path:
    """Write the page and return its path.

    Args:
        folder: of the page.
        opened: the network.
        images: shown.
        total: number of images that were explained.
        unreadable: reasons by name of the images that were left out.
        steps: gradient steps that improved the maps.
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    origin = ORIGINS[opened.state] + (f" {steps} gradient steps on each image improved it." if steps else "")
    text = environment.get_template("page.html.j2").render(
        css=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        network=opened.name,
        origin=origin,
        images=images,
        total=total,
        unreadable=list(unreadable.items()),
    )
    return write_atomically(folder / PAGE, text.lstrip() + "\n")


def thumbnail(picture: Image.Image) -> str:
    """Return a small picture as a data URI."""
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

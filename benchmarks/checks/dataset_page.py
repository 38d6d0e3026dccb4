"""Pictures and page of a data check: a sheet of images with their evidence, and a self-contained HTML file.

Evidence is drawn as the benchmark sees it, after resizing and cropping. Jinja2 escapes all text, and the content
security policy of the page allows neither scripts nor external resources.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from benchmarks.checks.dataset import DatasetReport, printable
from benchmarks.store.atomic import write_atomically
from interp_core.datasets import SPLITS, FileDataset, SplitName
from interp_core.errors import InterpError
from interp_core.pictures.png import encode_png

IMAGES, COLUMNS = 10, 5
# Pixels: side of an image, height of the text beneath, distance between tiles.
SIDE, TEXT_HEIGHT, GAP = 224, 30, 6
EVIDENCE_COLOUR, TINT = np.array((255, 40, 40), np.float32), 0.25
MAX_LETTERS = 34
MAX_FINDINGS_LISTED = 500

TEMPLATE = Path(__file__).with_name("dataset_page.html.j2")


def draw_sheet(dataset: FileDataset, count: int = IMAGES) -> Image.Image | None:
    """Draw images as the benchmark sees them, their evidence tinted and outlined.

    Args:
        dataset: the data set.
        count: maximum number of images; different classes come first.

    Returns:
        the sheet; None where no image can be read.
    """
    for split in ("test", "val", "train"):
        tiles = _tiles(dataset, split, count)  # type: ignore[arg-type]
        if tiles:
            return _arrange(tiles)
    return None


def render_page(report: DatasetReport, sheet: Image.Image | None) -> str:
    """Render the report as one HTML file.

    Args:
        report: the report, without identifiers if it is to be passed on; see `dataset.without_identifiers`.
        sheet: pictures to show.
    """
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    picture = base64.b64encode(encode_png(sheet)).decode() if sheet else ""
    return template.render(report=report, sheet=picture, limit=MAX_FINDINGS_LISTED, splits=SPLITS)


def write(report: DatasetReport, sheet: Image.Image | None, html: Path | None, png: Path | None) -> list[Path]:
    """Write the page and the sheet to the files that are given.

    Args:
        report: what the page shows.
        sheet: pictures; None for none.
        html: file for the page.
        png: file for the sheet.

    Returns:
        the files that were written.
    """
    paths = []
    if png is not None and sheet is not None:
        paths.append(write_atomically(png, encode_png(sheet)))
    if html is not None:
        paths.append(write_atomically(html, render_page(report, sheet)))
    return paths


def _tiles(dataset: FileDataset, split: SplitName, count: int) -> list[Image.Image]:
    """Draw images of a split: first those with evidence, and of these first one of each class."""
    try:
        images = dataset.load_explained(split)
    except InterpError:
        return []
    tiles: list[Image.Image] = []
    for index in _display_order(images.items):
        if len(tiles) == count:
            break
        image = images.take(np.array([index]))
        if len(image):
            class_name = dataset.classes[int(image.targets[0])]
            tiles.append(_draw_tile(image.images[0], image.masks[0, 0], f"{split}: {class_name}", image.ids[0]))
    return tiles


def _display_order(items: Sequence[Any]) -> list[int]:
    """Return indices sorted by whether there is evidence, then by occurrence within the class."""
    occurrences: Counter[int] = Counter()
    keys = []
    for index, item in enumerate(items):
        has_evidence = bool(item.record.boxes or item.record.masks)
        keys.append((not has_evidence, occurrences[item.target or 0], index))
        occurrences[item.target or 0] += 1
    return [index for *_, index in sorted(keys)]


def _draw_tile(image: np.ndarray, mask: np.ndarray, *lines: str) -> Image.Image:
    """Draw one image (3, H, W) uint8 with its mask (H, W) bool, and lines of text beneath."""
    pixels = np.array(Image.fromarray(image.transpose(1, 2, 0)).resize((SIDE, SIDE)), np.float32)
    evidence = np.array(Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    pixels[evidence] = (1 - TINT) * pixels[evidence] + TINT * EVIDENCE_COLOUR
    pixels[evidence & ~binary_erosion(evidence, iterations=2)] = EVIDENCE_COLOUR
    tile = Image.new("RGB", (SIDE, SIDE + TEXT_HEIGHT), "white")
    tile.paste(Image.fromarray(pixels.round().astype(np.uint8)))
    for number, line in enumerate(lines):
        text = printable(line).encode("ascii", "replace").decode()
        text = text[-MAX_LETTERS:] if number else text[:MAX_LETTERS]  # the end of an id says more than its start
        ImageDraw.Draw(tile).text((2, SIDE + 2 + 13 * number), text, "black")
    return tile


def _arrange(tiles: list[Image.Image]) -> Image.Image:
    """Paste tiles of one size into a grid."""
    columns, rows = min(COLUMNS, len(tiles)), -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (columns * (SIDE + GAP) - GAP, rows * (SIDE + TEXT_HEIGHT + GAP) - GAP), "white")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, COLUMNS)
        sheet.paste(tile, (column * (SIDE + GAP), row * (SIDE + TEXT_HEIGHT + GAP)))
    return sheet

"""The pictures and the page of a data check: ten images with their evidence drawn, and one self-contained HTML file.

The evidence is drawn as the benchmark will see it, after resizing and cropping. All text passes through jinja2's
escaping; the page's policy allows neither scripts nor anything from outside.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from benchmarks.checks.dataset import Report, printable
from benchmarks.store.atomic import write_atomically
from interp_core.datasets import SPLITS, FileDataset, SplitName
from interp_core.errors import InterpError

PICTURES, COLUMNS = 10, 5
SIDE, FOOT, GAP = 224, 30, 6
EDGE, TINT = (255, 40, 40), 0.25
LONGEST = 34
MOST_FINDINGS = 500

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Data check: {{ report.title }}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; }
td.n { text-align: right; } img { max-width: 100%; } .wide { overflow-x: auto; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #dde1e6; } }
</style></head><body>
<h1>{{ report.title }}</h1>
<p>{{ report.opened[0] }} images, {{ report.unreadable }} of them unreadable; every header was read and
{{ report.opened[1] }} images were decoded. {{ report.balance() }}.</p>
<ul>{% for line in report.layout %}<li>{{ line }}</li>{% endfor %}</ul>
<table><tr><th>split</th><th>images</th><th>with evidence</th></tr>
{% for split, count in report.images.items() %}<tr><td>{{ split }}</td><td class="n">{{ count }}</td>
<td class="n">{{ report.with_evidence[split] }}</td></tr>{% endfor %}</table>
{% if sheet %}<h2>Images and their evidence</h2><p><img alt="Sample images with their evidence outlined"
src="data:image/png;base64,{{ sheet }}"></p>{% endif %}
<h2>Findings</h2>{% if not findings %}<p>None.</p>{% else %}
<div class="wide"><table><tr><th>kind</th><th>where</th><th>what</th></tr>
{% for one in findings %}<tr><td>{{ one.kind }}</td><td>{{ one.where }}</td><td>{{ one.what }}</td></tr>
{% endfor %}</table></div>{% if more %}<p>and {{ more }} more.</p>{% endif %}{% endif %}
<h2>Classes</h2><div class="wide"><table><tr><th>class</th>
{% for split in splits %}<th>{{ split }}</th>{% endfor %}</tr>
{% for name in report.classes %}{% set number = loop.index0 %}<tr><td>{{ name }}</td>
{% for split in splits %}<td class="n">{{ report.counts[split][number] }}</td>{% endfor %}</tr>{% endfor %}
</table></div></body></html>
"""


def sheet(dataset: FileDataset, count: int = PICTURES) -> Image.Image | None:
    """Some images as the benchmark will see them, their evidence tinted and outlined, preferably of different classes.

    Args:
        dataset: which one.
        count: how many at most.

    Returns:
        the sheet; None where no image can be read.
    """
    for split in ("test", "val", "train"):
        tiles = _tiles(dataset, split, count)  # type: ignore[arg-type]
        if tiles:
            return _arranged(tiles)
    return None


def png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def page(report: Report, pictures: Image.Image | None) -> str:
    """The report as one HTML file; see `datacheck.without_identifiers` for what it should be given."""
    template = Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    shown = base64.b64encode(png(pictures)).decode() if pictures else ""
    some, more = report.findings[:MOST_FINDINGS], len(report.findings) - MOST_FINDINGS
    return template.render(report=report, sheet=shown, findings=some, more=max(more, 0), splits=SPLITS)


def write(report: Report, pictures: Image.Image | None, html: Path | None, to: Path | None) -> list[Path]:
    """Write the page and the pictures, as far as asked for.

    Args:
        report: to be shown.
        pictures: the sheet.
        html: file of the page.
        to: PNG file of the pictures.
    """
    written = []
    if to is not None and pictures is not None:
        written.append(write_atomically(to, png(pictures)))
    if html is not None:
        written.append(write_atomically(html, page(report, pictures)))
    return written


def _tiles(dataset: FileDataset, split: SplitName, count: int) -> list[Image.Image]:
    """Images of a split, those with evidence and of classes not yet shown first."""
    try:
        images = dataset.explained(split)
    except InterpError:
        return []
    seen: dict[int, int] = {}
    rank = []
    for place, item in enumerate(images.items):
        bare = not (item.record.boxes or item.record.masks)
        again = seen[item.target or 0] = seen.get(item.target or 0, -1) + 1
        rank.append((bare, again, place))
    tiles: list[Image.Image] = []
    for _, _, place in sorted(rank):
        if len(tiles) == count:
            break
        part = images.take(np.array([place]))
        if len(part):
            name = dataset.classes[int(part.targets[0])]
            tiles.append(_tile(part.images[0], part.masks[0, 0], f"{split}: {name}", part.ids[0]))
    return tiles


def _tile(image: np.ndarray, mask: np.ndarray, *lines: str) -> Image.Image:
    """One image (3, H, W) uint8 with its mask (H, W) bool, and lines of text beneath."""
    pixels = np.array(Image.fromarray(image.transpose(1, 2, 0)).resize((SIDE, SIDE)), np.float32)
    large = np.array(Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    colour = np.array(EDGE, np.float32)
    pixels[large] = (1 - TINT) * pixels[large] + TINT * colour
    pixels[large & ~binary_erosion(large, iterations=2)] = colour
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    tile = Image.new("RGB", (SIDE, SIDE + FOOT), "white")
    tile.paste(picture)
    for number, line in enumerate(lines):
        plain = printable(line).encode("ascii", "replace").decode()
        ImageDraw.Draw(tile).text((2, SIDE + 2 + 13 * number), plain[-LONGEST:] if number else plain[:LONGEST], "black")
    return tile


def _arranged(tiles: list[Image.Image]) -> Image.Image:
    columns, rows = min(COLUMNS, len(tiles)), -(-len(tiles) // COLUMNS)
    out = Image.new("RGB", (columns * (SIDE + GAP) - GAP, rows * (SIDE + FOOT + GAP) - GAP), "white")
    for place, tile in enumerate(tiles):
        row, column = divmod(place, COLUMNS)
        out.paste(tile, (column * (SIDE + GAP), row * (SIDE + FOOT + GAP)))
    return out

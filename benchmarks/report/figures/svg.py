"""Finish matplotlib's SVG files, so that they look alike everywhere and turn dark on a dark page.

Matplotlib leaves text as text and names a font that the reader may not have, so a subset of that font (fontTools, WOFF)
is put into the file. Numbers of paths are cut to a hundredth of a point. `for_page` shortens a figure for the page:
each style is declared once, pictures become WebP, and the palette's colours become CSS variables with a value for light
and one for dark mode.
"""

from __future__ import annotations

import base64
import io
import re
from functools import lru_cache

from PIL import Image

from benchmarks.report.figures import palette
from benchmarks.report.figures.webp import encode_webp

_COORDINATES = re.compile(r'\b(?:d|transform|points|x|y|x1|x2|y1|y2|width|height)="[^"]*"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_STYLE = re.compile(r'\bstyle="([^"]*)"')
_EMPTY = re.compile(r"<metadata>.*?</metadata>|<g id=\"[^\"]*\"/>", re.DOTALL)
_GROUPS = re.compile(r'<g id="[^"]*">')
_GAPS = re.compile(r">\s+<")
_PICTURE = re.compile(r'href="data:image/png;base64,([^"]*)"')
_LARGEST_TILE = 192  # pixels; a tile of the gallery is at most half as wide on the page
_TEXT = re.compile(r'<text style="([^"]*)"[^>]*>([^<]*)</text>')
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_COMMON = frozenset(map(chr, (*range(0x20, 0x7F), *range(0xA0, 0x180)))) | frozenset("–—’“”…−←→≤≥×±")
_BY_VALUE = {str(colour): colour for colour in palette.FIGURES}


def finish(svg: bytes) -> bytes:
    """Embed the font in matplotlib's SVG and shorten its numbers."""
    text = svg.decode()
    text = _COORDINATES.sub(lambda match: _DECIMALS.sub(r"\1", match.group()), text)
    return _add_style(text, _font_faces(text)).encode()


def for_page(svg: bytes) -> bytes:
    """Shorten a finished SVG for the page, and give its colours their values for dark mode."""
    text = _PICTURE.sub(_compress_picture, _GROUPS.sub("<g>", _EMPTY.sub("", svg.decode())))
    text = _GAPS.sub("><", _COORDINATES.sub(lambda match: " ".join(match.group().split()), text))
    names: dict[str, str] = {}

    def name_style(match: re.Match[str]) -> str:
        return f'class="{names.setdefault(match.group(1), f"s{len(names)}")}"'

    text = _STYLE.sub(name_style, text)
    rules = "".join(f".{name}{{{_with_variables(rule)}}}" for rule, name in names.items())
    used = [colour for value, colour in _BY_VALUE.items() if any(value in rule for rule in names)]
    return _add_style(text, rules + palette.css_variables(used)).encode()


def _with_variables(rule: str) -> str:
    """Replace the palette's colours by their CSS variables; other colours stay as they are."""

    def variable(match: re.Match[str]) -> str:
        colour = _BY_VALUE.get(match.group())
        return match.group() if colour is None else f"var(--{colour.name})"

    return _COLOUR.sub(variable, rule)


def _compress_picture(match: re.Match[str]) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(match.group(1))))
    picture.thumbnail((_LARGEST_TILE, _LARGEST_TILE))
    return f'href="data:image/webp;base64,{base64.b64encode(encode_webp(picture, quality=80)).decode()}"'


def _add_style(text: str, rules: str) -> str:
    return text.replace("</defs>", f'</defs>\n <defs><style type="text/css">{rules}</style></defs>', 1)


def _font_faces(text: str) -> str:
    """Return @font-face rules with the letters of the SVG."""
    letters_by_weight: dict[bool, set[str]] = {}
    for style, letters in _TEXT.findall(text):
        letters_by_weight.setdefault("bold" in style or "700" in style, set()).update(_unescape(letters))
    return "".join(
        f"@font-face{{font-family:'DejaVu Sans';font-weight:{700 if is_bold else 400};"
        f"src:url(data:font/woff;base64,{_subset_font(is_bold, ''.join(sorted(letters)))}) format('woff')}}"
        for is_bold, letters in sorted(letters_by_weight.items())
    )


@lru_cache(maxsize=64)
def _subset_font(is_bold: bool, letters: str) -> str:
    """Return a subset of the font as base64 of a WOFF file."""
    from matplotlib.font_manager import FontProperties, findfont

    path = findfont(FontProperties(family="DejaVu Sans", weight="bold" if is_bold else "normal"))
    source = io.BytesIO(_common_font(path)) if _COMMON.issuperset(letters) else path
    return base64.b64encode(_cut_font(source, letters, "woff")).decode()


@lru_cache(maxsize=2)
def _common_font(path: str) -> bytes:
    """Return the font with the letters that labels commonly have, which is quicker to cut than the whole font."""
    return _cut_font(path, "".join(sorted(_COMMON)), None)


def _cut_font(source: str | io.BytesIO, letters: str, flavor: str | None) -> bytes:
    """Return a font file with some letters of a font.

    Args:
        source: path or content of the font.
        letters: letters to keep.
        flavor: "woff", or None for TrueType.
    """
    from fontTools import subset
    from fontTools.ttLib import TTFont

    font = TTFont(source, recalcTimestamp=False)
    options = subset.Options(layout_features=[], hinting=False, name_IDs=[], notdef_outline=True)
    options.drop_tables += ["FFTM", "GDEF", "GPOS", "GSUB", "MATH", "kern"]  # slow to cut, and labels need none
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=letters)
    subsetter.subset(font)
    font.flavor = flavor
    buffer = io.BytesIO()
    font.save(buffer)
    return buffer.getvalue()


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")

"""SVG files that look alike everywhere: the letters they use travel inside, and in the dark they turn dark.

Matplotlib leaves text as text and names a font that the reader may not have; a subset of that font (fontTools, WOFF)
is put into the file. Numbers of paths are cut to a hundredth of a point. `for_page` says each style once instead of at
every line, and adds the colours for readers who asked for a dark page.
"""

from __future__ import annotations

import base64
import io
import re
from functools import lru_cache

from PIL import Image

from benchmarks.report.figures.webp import encode_webp

# matplotlib's colours and what stands for them on a dark page
DARK = {
    "#ffffff": "#1b1f24", "#222222": "#e4e7ea", "#6b6b6b": "#a2abb5", "#8a8a8a": "#9aa3ad", "#e9e9e9": "#30363d",
    "#eeeeee": "#2d333a", "#999999": "#6e7781", "#aaaaaa": "#6e7781", "#bbbbbb": "#6e7781", "#0072b2": "#56b4e9",
    "#d55e00": "#ff8f3f", "#009e73": "#3fcf9f",
}  # fmt: skip
_COORDINATES = re.compile(r'\b(?:d|transform|points|x|y|x1|x2|y1|y2|width|height)="[^"]*"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_STYLE = re.compile(r'\bstyle="([^"]*)"')
_EMPTY = re.compile(r"<metadata>.*?</metadata>|<g id=\"[^\"]*\"/>", re.DOTALL)
_GROUPS = re.compile(r'<g id="[^"]*">')
_GAPS = re.compile(r">\s+<")
_PICTURE = re.compile(r'href="data:image/png;base64,([^"]*)"')
_LARGEST_TILE = 192  # pixels; a tile of the gallery is at most half as wide on the page
_TEXT = re.compile(r'<text style="([^"]*)"[^>]*>([^<]*)</text>')


def finished(svg: bytes) -> bytes:
    """Matplotlib's SVG with its font inside and its numbers shortened."""
    text = svg.decode()
    text = _COORDINATES.sub(lambda match: _DECIMALS.sub(r"\1", match.group()), text)
    return _with_style(text, _faces(text)).encode()


def for_page(svg: bytes) -> bytes:
    """The SVG at a third of its size, with dark colours where the reader's device asks for them."""
    text = _PICTURE.sub(_compressed, _GROUPS.sub("<g>", _EMPTY.sub("", svg.decode())))
    text = _GAPS.sub("><", _COORDINATES.sub(lambda match: " ".join(match.group().split()), text))
    classes: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        return f'class="{classes.setdefault(match.group(1), f"s{len(classes)}")}"'

    text = _STYLE.sub(named, text)
    light = "".join(f".{name}{{{rule}}}" for rule, name in classes.items())
    dark = "".join(f".{name}{{{darker}}}" for rule, name in classes.items() if (darker := _darkened(rule)) != rule)
    return _with_style(text, f"{light}@media (prefers-color-scheme:dark){{{dark}}}").encode()


def _compressed(match: re.Match[str]) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(match.group(1))))
    picture.thumbnail((_LARGEST_TILE, _LARGEST_TILE))
    return f'href="data:image/webp;base64,{base64.b64encode(encode_webp(picture, quality=80)).decode()}"'


def _darkened(rule: str) -> str:
    return re.sub(r"#[0-9a-f]{6}", lambda match: DARK.get(match.group(), match.group()), rule)


def _with_style(text: str, rules: str) -> str:
    return text.replace("</defs>", f'</defs>\n <defs><style type="text/css">{rules}</style></defs>', 1)


def _faces(text: str) -> str:
    """@font-face rules for the letters that stand in the SVG."""
    used: dict[bool, set[str]] = {}
    for style, letters in _TEXT.findall(text):
        used.setdefault("bold" in style or "700" in style, set()).update(_unescaped(letters))
    return "".join(
        f"@font-face{{font-family:'DejaVu Sans';font-weight:{700 if bold else 400};"
        f"src:url(data:font/woff;base64,{_subset(bold, ''.join(sorted(letters)))}) format('woff')}}"
        for bold, letters in sorted(used.items())
    )


@lru_cache(maxsize=64)
def _subset(bold: bool, letters: str) -> str:
    from fontTools import subset
    from fontTools.ttLib import TTFont
    from matplotlib.font_manager import FontProperties, findfont

    font = TTFont(
        findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")), recalcTimestamp=False
    )
    options = subset.Options(layout_features=[], hinting=False, name_IDs=[], notdef_outline=True)
    options.drop_tables += ["FFTM", "GDEF", "GPOS", "GSUB", "MATH", "kern"]  # slow to cut, and labels need none
    chosen = subset.Subsetter(options)
    chosen.populate(text=letters)
    chosen.subset(font)
    font.flavor = "woff"
    buffer = io.BytesIO()
    font.save(buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")

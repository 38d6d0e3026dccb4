"""Read boxes however they are written: corners, a corner and a size, a centre and a size, pixels or shares.

Columns and keys are compared in lower case without punctuation and without "bbox" in front. Shares of the image are
boxes of an image of 1 x 1, so a record whose boxes are shares has the size (1, 1).
Known limit: a table of boxes that all lie in the first pixel of their images is taken for shares.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

Form = Literal["corners", "size", "centre"]
Corners = tuple[float, float, float, float]

SHARES: tuple[int, int] = (1, 1)
"""Size that boxes in shares of the image refer to."""

# Sets of four names, the most telling first: widths and heights may be those of the image.
NAMES: tuple[tuple[Form, tuple[str, str, str, str]], ...] = (
    ("corners", ("x0", "y0", "x1", "y1")),
    ("corners", ("xmin", "ymin", "xmax", "ymax")),
    ("corners", ("x1", "y1", "x2", "y2")),
    ("corners", ("left", "top", "right", "bottom")),
    ("corners", ("minx", "miny", "maxx", "maxy")),
    ("corners", ("xtl", "ytl", "xbr", "ybr")),
    ("corners", ("startx", "starty", "endx", "endy")),
    ("corners", ("xstart", "ystart", "xend", "yend")),
    ("centre", ("cx", "cy", "w", "h")),
    ("centre", ("cx", "cy", "width", "height")),
    ("centre", ("xc", "yc", "w", "h")),
    ("centre", ("xcenter", "ycenter", "w", "h")),
    ("centre", ("xcenter", "ycenter", "width", "height")),
    ("centre", ("xcentre", "ycentre", "width", "height")),
    ("centre", ("centerx", "centery", "width", "height")),
    ("size", ("x", "y", "w", "h")),
    ("size", ("x", "y", "width", "height")),
    ("size", ("x0", "y0", "w", "h")),
    ("size", ("xmin", "ymin", "w", "h")),
    ("size", ("xmin", "ymin", "width", "height")),
    ("size", ("x0", "y0", "width", "height")),
    ("size", ("left", "top", "width", "height")),
    ("size", ("left", "top", "w", "h")),
    ("size", ("leftx", "topy", "width", "height")),
)
LISTS = (
    "bbox",
    "bboxes",
    "box",
    "boxes",
    "boundingbox",
    "boundingboxes",
    "boxesstring",
    "coords",
    "coordinates",
    "rect",
)
PREFIXES = ("boundingbox", "bboxes", "bbox", "box", "roi", "rect")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\bnan\b|[-+]?\binf(?:inity)?\b", re.IGNORECASE)
# Shares may be rounded a little beyond the image.
MOST_SHARE = 1.5


def find_columns(names: Iterable[str]) -> tuple[Form, tuple[str, ...]] | None:
    """Return the form and the four names of the coordinates of a box among names of columns, or None."""
    by_plain: dict[str, str] = {}
    for name in names:
        for plain in (_plain(name), _without_prefix(_plain(name))):
            by_plain.setdefault(plain, name)
    for form, expected in NAMES:
        if all(name in by_plain for name in expected):
            return form, tuple(by_plain[name] for name in expected)
    return None


def find_list_column(names: Iterable[str]) -> str | None:
    """Return the column that holds whole boxes as text, or None."""
    return next((name for name in names if _plain(name) in LISTS), None)


def to_corners(values: Sequence[float], form: Form) -> Corners:
    """Return x0, y0, x1, y1 of a box of four numbers."""
    a, b, c, d = (float(value) for value in values)
    if form == "size":
        return a, b, a + c, b + d
    if form == "centre":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def parse_boxes(value: Any, form: Form = "size") -> list[Corners]:
    """Read the boxes of one value: four numbers, a list of them, a dict of coordinates, or any of these as text.

    Args:
        value: what a file says.
        form: meaning of four numbers without names.

    Raises:
        ValueError: it is something else, or holds something else than numbers.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, str):
        return _parse_text(value, form)
    if isinstance(value, Mapping):
        return [_from_mapping(value)]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise ValueError("is no box of four numbers")
    if any(isinstance(entry, list | tuple | Mapping | np.ndarray) for entry in value):
        return [box for entry in value for box in parse_boxes(entry, form)]
    if not value:
        return []
    return [to_corners(_four(value), form)]


def are_shares(boxes: Iterable[Sequence[float]]) -> bool:
    """Return whether most boxes of a table are in shares of the image, not in pixels.

    Args:
        boxes: corners x0, y0, x1, y1 of all boxes of a table.
    """
    shares = fractions = whole_images = others = 0
    for box in boxes:
        if not all(map(math.isfinite, box)):
            continue
        if not all(abs(value) <= MOST_SHARE for value in box):
            others += 1
            continue
        shares += 1
        fractions += any(value != round(value) for value in box)
        whole_images += tuple(box) == (0, 0, 1, 1)
    return shares > others and (fractions > 0 or whole_images == shares > 1)


def choose_form(
    lists: Iterable[tuple[Sequence[Sequence[float]], tuple[int, int] | None]], default: Form = "size"
) -> Form:
    """Return whether four numbers without names are a corner and a size, or two corners.

    Boxes that would reach beyond their images as a corner and a size, but not as two corners, are corners.

    Args:
        lists: four numbers of each box of an image, and (width, height) of the image if it is known.
        default: form where nothing speaks against it.
    """
    beyond: dict[Form, int] = {"size": 0, "corners": 0}
    for boxes, size in lists:
        for box in boxes:
            width, height = size or (math.inf, math.inf)
            if all(abs(value) <= MOST_SHARE for value in box):
                width, height = 1, 1
            for form in beyond:
                x0, y0, x1, y1 = to_corners(box, form)
                beyond[form] += x1 > width * 1.01 or y1 > height * 1.01 or x1 <= x0 or y1 <= y0
    return "corners" if beyond["corners"] < beyond["size"] else default


def _parse_text(text: str, form: Form) -> list[Corners]:
    """Read boxes of a text, as JSON, or else as its numbers in fours."""
    try:
        return (
            parse_boxes(json.loads(text.replace("'", '"')), form) if text.lstrip()[0] in "[{(" else _fours(text, form)
        )
    except (ValueError, RecursionError):
        return _fours(text, form)


def _fours(text: str, form: Form) -> list[Corners]:
    numbers = [float(number) for number in NUMBER.findall(text)]
    tail = re.sub(
        r"(?:np\.)?(?:array|tensor|bbox|box|none|float64|float32)", "", NUMBER.sub("", text), flags=re.IGNORECASE
    )
    if not numbers or len(numbers) % 4 or re.search(r"[^\W_]", tail):
        raise ValueError("is no box of four numbers")
    return [to_corners(numbers[start : start + 4], form) for start in range(0, len(numbers), 4)]


def _four(values: Sequence[Any]) -> list[float]:
    try:
        numbers = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("holds something else than numbers") from error
    if len(numbers) != 4:
        raise ValueError("is no box of four numbers")
    return numbers


def _from_mapping(value: Mapping[Any, Any]) -> Corners:
    columns = find_columns(str(key) for key in value)
    if columns is None:
        raise ValueError(f"has no coordinates of a box: {', '.join(map(str, value))[:60]}")
    form, names = columns
    by_name: Callable[[Any], Any] = {str(key): entry for key, entry in value.items()}.__getitem__
    return to_corners(_four([by_name(name) for name in names]), form)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _without_prefix(plain: str) -> str:
    for prefix in PREFIXES:
        if plain.startswith(prefix) and len(plain) > len(prefix):
            return plain[len(prefix) :]
    return plain

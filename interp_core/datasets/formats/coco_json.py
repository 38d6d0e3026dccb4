"""Read the entries of a COCO JSON file, whoever exported it.

Ids may be text or numbers. A box may be a list, a dict or missing. An entry that cannot be read costs itself, not the
file. JSON without COCO's three lists is another kind of file.

Source: cocodataset.org, "Data format", object detection.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from interp_core.datasets.files.box_forms import Corners, parse_boxes
from interp_core.datasets.files.tables import read_text
from interp_core.datasets.formats.voc import AnnotationError
from interp_core.datasets.records import Finding
from interp_core.errors import InterpError, one_line

MAX_SIDE = 2**24
FILE_KEYS = ("file_name", "filename", "path", "file", "name")


@dataclass(frozen=True)
class CocoImage:
    """An image; `size` is (width, height) if both are known and positive."""

    id: str
    file_name: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoObject:
    """An object in an image.

    Attributes:
        image_id: image.
        category_id: class.
        corners: x0, y0, x1, y1; None for no box.
        segmentation: polygons or run lengths as written; None for none.
        is_crowd: whether it stands for a group of objects.
    """

    image_id: str
    category_id: str
    corners: Corners | None = None
    segmentation: Any = None
    is_crowd: bool = False


@dataclass
class CocoFile:
    """What is used of a COCO file.

    Attributes:
        path: the file.
        images: images in the order of the file.
        categories: names by id, in the order of ids.
        objects: objects in the order of the file.
        findings: entries that cannot be read.
    """

    path: Path
    images: list[CocoImage] = field(default_factory=list)
    categories: dict[str, str] = field(default_factory=dict)
    objects: list[CocoObject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_coco(path: Path) -> CocoFile:
    """Read a COCO file.

    Raises:
        AnnotationError: the file cannot be read or is not COCO JSON.
    """
    try:
        content = from_json(read_text(path).lstrip("\ufeff").encode(errors="surrogatepass"))
    except (InterpError, ValueError, RecursionError) as error:
        raise AnnotationError(f"cannot read {path} as COCO JSON: {one_line(error)}") from error
    lack = _lack(content)
    if lack:
        raise AnnotationError(f"cannot read {path} as COCO JSON: {lack}")
    result = CocoFile(path)
    result.categories = _categories(content["categories"], result)
    result.images = list(_images(content["images"], result))
    result.objects = list(_objects(content.get("annotations") or [], result))
    return result


def normalise_id(value: Any) -> str | None:
    """Return an id as text, so that 7, 7.0 and "7" are one; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value.is_integer() else None
    is_number = text.removeprefix("-").isdecimal() and len(text) < 40
    return (str(int(text)) if is_number else text) or None


def order_of_id(value: str) -> tuple[bool, int, str]:
    """Return the sort key of an id: numbers by value, then text."""
    is_number = value.removeprefix("-").isdecimal() and len(value) < 40
    return not is_number, int(value) if is_number else 0, value


def _lack(content: Any) -> str:
    """Return what JSON lacks to be COCO's, or "" for nothing."""
    if not isinstance(content, dict):
        return "it is no object with images, annotations and categories"
    for name in ("images", "categories"):
        entries = content.get(name)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return f"{name} must be a list of objects"
    if not isinstance(content.get("annotations", []), list | None):
        return "annotations must be a list"
    return ""


def _categories(entries: list[dict[str, Any]], result: CocoFile) -> dict[str, str]:
    names: dict[str, str] = {}
    for entry in entries:
        key, name = normalise_id(entry.get("id")), entry.get("name")
        if key is None or name is None or isinstance(name, dict | list):
            _report(result, "category", entry, "has no id or name")
            continue
        names[key] = str(name)
    return {key: names[key] for key in sorted(names, key=order_of_id)}


def _images(entries: list[dict[str, Any]], result: CocoFile) -> Iterator[CocoImage]:
    keys: set[str] = set()
    for entry in entries:
        key = normalise_id(entry.get("id"))
        name = next((entry[k] for k in FILE_KEYS if isinstance(entry.get(k), str) and entry[k]), None)
        if key is None or name is None:
            _report(result, "image", entry, "has no id or file_name")
        elif key in keys:
            _report(result, "image", entry, "has the id of another image")
        else:
            keys.add(key)
            yield CocoImage(key, name, _size(entry))


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    try:
        width, height = int(float(entry["width"])), int(float(entry["height"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (width, height) if 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE else None


def _objects(entries: list[Any], result: CocoFile) -> Iterator[CocoObject]:
    for entry in entries:
        if not isinstance(entry, dict):
            _report(result, "annotation", entry, "is no object")
            continue
        image, category = normalise_id(entry.get("image_id")), normalise_id(entry.get("category_id"))
        if image is None or category is None:
            _report(result, "annotation", entry, "has no image_id or category_id")
            continue
        segmentation = entry.get("segmentation") or None
        is_crowd = str(entry.get("iscrowd") or 0).lower() not in ("0", "0.0", "false")
        yield CocoObject(image, category, _box(entry, result), segmentation, is_crowd)


def _box(entry: dict[str, Any], result: CocoFile) -> Corners | None:
    """Return the corners of an object, with a finding if its box cannot be read."""
    value = entry.get("bbox")
    if value is None:
        return None
    try:
        boxes = parse_boxes(value)
    except ValueError as error:
        boxes, reason = [], str(error)
    else:
        reason = "is empty" if not boxes else "holds more than one box"
    if len(boxes) == 1:
        return boxes[0]
    where = f"{result.path.name}, annotation {entry.get('id', '?')}"
    result.findings.append(Finding("box", where, f"its bbox {reason}, left out: {str(value)[:60]}"))
    return None


def _report(result: CocoFile, kind: str, entry: Any, what: str) -> None:
    label = entry.get("id", "?") if isinstance(entry, dict) else str(entry)[:30]
    result.findings.append(Finding(f"bad {kind}", f"{result.path.name}, {kind} {label}", f"{what}: left out"))

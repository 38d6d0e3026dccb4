"""Read the boxes of a table, whatever its columns are called, in pixels or in shares of the image.

Four columns tell their meaning by their names. One column of whole boxes is read as x, y, width, height, unless boxes
would then reach beyond the first images and would not as two corners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from interp_core.datasets.files.box_forms import (
    SHARES,
    Corners,
    Form,
    are_shares,
    choose_form,
    find_columns,
    find_list_column,
    parse_boxes,
    to_corners,
)
from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.images import UnreadableImage, read_size
from interp_core.datasets.files.tables import first_column, to_numbers
from interp_core.datasets.records import Box, Finding

BoxFormat = Literal["auto", "corners", "size", "centre"]
# Images whose headers are read to tell the form of boxes without names.
IMAGES_PROBED = 64


@dataclass(frozen=True)
class RowBoxes:
    """Boxes of a row of a table: x0, y0, x1, y1 each, in pixels or in shares of the image."""

    where: str
    boxes: tuple[Corners, ...]
    in_shares: bool


def box_columns(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that `read_boxes` reads; () for none."""
    columns = find_columns(table.columns)
    column = find_list_column(table.columns)
    return columns[1] if columns is not None else () if column is None else (column,)


def read_boxes(
    table: pd.DataFrame,
    path: Path,
    inclusive: bool,
    findings: list[Finding],
    box_format: BoxFormat = "auto",
    find_image: Callable[[int], Path | None] = lambda _: None,
) -> list[RowBoxes] | None:
    """Read the boxes of each row of a table.

    Args:
        table: the table.
        path: its file, for findings.
        inclusive: whether x1 and y1 are the last pixel inside the box; not for boxes with a width.
        findings: list to which boxes are added that cannot be read, and what was decided.
        box_format: meaning of four numbers; "auto" for that of the names.
        find_image: function from the position of a row to its image, to tell the meaning of boxes without names.

    Returns:
        The boxes of each row; None if the table has no column of boxes.
    """
    columns = find_columns(table.columns)
    names = [f"{path.name}, row {row}" for row in table.index]
    if columns is not None:
        form = columns[0] if box_format == "auto" else box_format
        boxes = _of_columns(table, columns[1], form)
    elif (column := find_list_column(table.columns)) is not None:
        form = _form_of_list(table, column, path, find_image, findings) if box_format == "auto" else box_format
        boxes = [_parse(text, form, location, findings) for text, location in zip(table[column], names, strict=True)]
    else:
        return None
    table_in_shares = are_shares(box for row in boxes for box in row)
    if table_in_shares:
        findings.append(Finding("boxes in shares", path.name, "boxes from 0 to 1 are read as shares of the image"))
    return [
        _row(location, row, inclusive and form == "corners", table_in_shares, findings)
        for location, row in zip(names, boxes, strict=True)
    ]


def repair_row_boxes(
    rows: Sequence[tuple[RowBoxes, int | None]], findings: list[Finding]
) -> tuple[tuple[Box, ...], tuple[int, int] | None]:
    """Return the usable boxes of the rows of one image, and the size they refer to; None for that of the image.

    Args:
        rows: boxes of each row, with the class they are evidence for.
        findings: list to which repairs and dropped boxes are added.
    """
    with_boxes = [(row, target) for row, target in rows if row.boxes]
    in_shares = 2 * sum(row.in_shares for row, _ in with_boxes) > len(with_boxes)
    boxes: list[Box] = []
    for row, target in with_boxes:
        if row.in_shares != in_shares:
            message = "pixels and shares of the image are mixed in one image, left out"
            findings.append(Finding("box", row.where, message))
            continue
        for corners in row.boxes:
            box = repair_box(corners, row.where, findings, target, SHARES if in_shares else None)
            boxes += [] if box is None else [box]
    return tuple(boxes), SHARES if in_shares else None


def _of_columns(table: pd.DataFrame, columns: tuple[str, ...], form: Form) -> list[tuple[Corners, ...]]:
    """Return the box of each row from four columns; none where all four are blank."""
    selected = table[list(columns)]
    is_blank = (selected == "").all(axis=1)
    # Decimal commas, as in tables separated by semicolons.
    decimal = selected.apply(lambda column: column.str.replace(r"^(-?\d+),(\d+)$", r"\1.\2", regex=True))
    values = to_numbers(decimal, columns)
    return [() if blank else (to_corners(row, form),) for row, blank in zip(values.tolist(), is_blank, strict=True)]


def _parse(text: str, form: Form, where: str, findings: list[Finding]) -> tuple[Corners, ...]:
    try:
        return tuple(parse_boxes(text, form))
    except ValueError as error:
        findings.append(Finding("box", where, f"{text[:60]!r} {error}, left out"))
        return ()


def _form_of_list(
    table: pd.DataFrame,
    column: str,
    path: Path,
    find_image: Callable[[int], Path | None],
    findings: list[Finding],
) -> Form:
    """Return the meaning of four numbers in a column of whole boxes."""
    lists: list[tuple[Sequence[Corners], tuple[int, int] | None]] = []
    for position, text in enumerate(table[column]):
        if len(lists) == IMAGES_PROBED:
            break
        boxes = _parse(text, "corners", "", [])
        if boxes and not _has_names(text):
            lists.append((boxes, _size_of(table, position, find_image)))
    form = choose_form(lists)
    if form != "size":
        message = f"column {column} is read as x0, y0, x1, y1, since x, y, width, height would not fit (box_format)"
        findings.append(Finding("box format", path.name, message))
    return form


def _has_names(text: str) -> bool:
    return "{" in text


def _size_of(table: pd.DataFrame, position: int, find_image: Callable[[int], Path | None]) -> tuple[int, int] | None:
    columns = first_column(table, ("width", "image_width")), first_column(table, ("height", "image_height"))
    if None not in columns:
        width, height = to_numbers(table.iloc[[position]], [str(name) for name in columns])[0]
        if width >= 1 and height >= 1 and np.isfinite(width * height):
            return int(width), int(height)
    image = find_image(position)
    if image is None:
        return None
    try:
        return read_size(image)
    except UnreadableImage:
        return None


def _row(
    where: str, boxes: tuple[Corners, ...], inclusive: bool, table_in_shares: bool, findings: list[Finding]
) -> RowBoxes:
    """Return the boxes of a row, whose unit may differ from that of the table."""
    in_shares = bool(boxes) and are_shares(boxes) if not table_in_shares else _may_be_shares(boxes)
    if in_shares and not table_in_shares:
        findings.append(
            Finding("box in shares", where, "from 0 to 1 among boxes in pixels: read as share of the image")
        )
    if inclusive and not in_shares:
        boxes = tuple((x0, y0, x1 + 1, y1 + 1) for x0, y0, x1, y1 in boxes)
    return RowBoxes(where, boxes, in_shares)


def _may_be_shares(boxes: tuple[Corners, ...]) -> bool:
    return all(abs(value) <= 1.5 for box in boxes for value in box if np.isfinite(value))

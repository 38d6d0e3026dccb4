"""A table that lists images: `index.csv` with columns file, label and, as far as known, split, box, mask, group.

Columns may have any order and the names below. An image with several boxes has a row for each; one with several classes
has a row for each, or "a|b" in one, which makes the data set multi-label. Where labels are numbers, a column of names
(`name`, `breed`, ...) names the classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.files.paths import find_file, relative_id, walk_files
from interp_core.datasets.files.splits import SplitRecord
from interp_core.datasets.files.tables import TableError, first_column, read_table, to_numbers
from interp_core.datasets.formats.annotations import FILE, LABEL, FolderAnnotations, corner_columns
from interp_core.datasets.formats.coco import split_of
from interp_core.datasets.records import Box, Finding, MaskFile, Record, SplitName

NAME = ("name", "class_name", "label_name", "breed", "species")
SPLIT = ("split", "set", "subset", "partition")
MASK = ("mask", "mask_file", "mask_path")
GROUP = ("group", "patient", "patient_id", "patientid", "subject")
IMAGE_FOLDERS = (".", "images", "image", "img")


class Row(NamedTuple):
    """One row, resolved."""

    path: Path
    where: str
    labels: tuple[str, ...]
    split: SplitName | None
    corners: tuple[float, ...] | None
    mask: Path | None
    group: str


def looks_like_index(path: Path) -> bool:
    """Whether a file is there and has columns for files and labels.

    Raises:
        TableError: it cannot be read.
    """
    if not path.is_file():
        return False
    table = read_table(path)
    return first_column(table, FILE) is not None and first_column(table, (*LABEL, *NAME)) is not None


def read_index_table(
    root: Path, path: Path, name: str, evidence: FolderAnnotations, inclusive: bool, findings: list[Finding]
) -> tuple[tuple[str, ...], list[SplitRecord], bool]:
    """Classes, images and whether an image may show several classes.

    Args:
        root: of the data set.
        path: of the table.
        name: of the data set, before ids.
        evidence: masks beside the images, for those whose rows name none.
        inclusive: whether x1 and y1 are pixels inside the box.
        findings: is told what is wrong.

    Raises:
        TableError: the table cannot be read or lacks a column.
    """
    told: list[Finding] = []
    table = read_table(path, findings=told)
    findings += told
    label = first_column(table, (*LABEL, *NAME))
    if first_column(table, FILE) is None or label is None:
        raise TableError(f"{path} lacks a column of: file, label; it has {', '.join(table.columns)}")
    classes, targets = _classes(table, label)
    images: dict[Path, list[Row]] = {}
    for row in _rows(root, path, table, label, inclusive, findings):
        images.setdefault(row.path, []).append(row)
    listed = {path for path, rows in images.items()}
    _tell_unlisted(root, listed, findings)
    counts = pd.Series([path.name for path in listed], dtype=str).value_counts()
    labelled = []
    for file, rows in images.items():
        shown = tuple(sorted({targets[one] for row in rows for one in row.labels}))
        beside = evidence.of(relative_id(file, root), counts[file.name] == 1)
        boxes = _boxes(rows, targets, len(shown) > 1, findings)
        masks = tuple(MaskFile(mask, evidence.mask_values) for mask in dict.fromkeys(row.mask for row in rows) if mask)
        masks = masks or beside.masks
        # A mask says more than the boxes around the same objects.
        record = Record(f"{name}/{relative_id(file, root)}", file, shown, () if masks else boxes, masks, rows[0].group)
        labelled.append(SplitRecord(record, rows[0].split))
    return classes, labelled, any(len(item.record.targets) > 1 for item in labelled)


def _classes(table: pd.DataFrame, label: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of classes, and the target of each label."""
    labels = sorted({one for text in table[label] for one in _several(text)})
    if not all(one.removeprefix("-").isdecimal() for one in labels):
        return tuple(labels), {one: index for index, one in enumerate(labels)}
    labels.sort(key=int)
    targets = {one: index for index, one in enumerate(labels)}
    column = first_column(table, NAME)
    pairs = set() if column is None else set(zip(table[label], table[column], strict=True))
    names = dict(pairs)
    told = len(pairs) == len(labels) == len(set(names.values())) and set(names) == set(labels)
    return tuple(names[one] if told else one for one in labels), targets


def _several(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|") if part.strip())


def _rows(
    root: Path, path: Path, table: pd.DataFrame, label: str, inclusive: bool, findings: list[Finding]
) -> Iterator[Row]:
    columns = [_column(table, names) for names in (FILE, (label,), SPLIT, MASK, GROUP)]
    for row, name, text, part, mask, group, corners in zip(
        table.index, *columns, _corners(table, inclusive), strict=True
    ):
        where, labels, split = f"{path.name}, row {row}", _several(text), split_of(part)
        picture = find_file(root, name, (*IMAGE_FOLDERS, part if split else "."))
        if picture is None:
            findings.append(Finding("label without image", where, f"no file {name[:200]!r}"))
            continue
        if not labels:
            findings.append(Finding("image without label", where, f"{name[:200]!r} has none: left out"))
            continue
        marked = find_file(root, mask, (".", "masks")) if mask else None
        if mask and marked is None:
            findings.append(Finding("missing mask", where, f"no file {mask[:200]!r}: done without"))
        yield Row(picture, where, labels, split, corners, marked, group)


def _column(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    found = first_column(table, names)
    return [""] * len(table) if found is None else table[found].tolist()


def _corners(table: pd.DataFrame, inclusive: bool) -> list[tuple[float, ...] | None]:
    """Corners of each row, half-open; None where all four are blank."""
    columns = corner_columns(table)
    if columns is None:
        return [None] * len(table)
    blank = (table[list(columns)] == "").all(axis=1)
    values = to_numbers(table, columns) + np.array([0, 0, inclusive, inclusive])
    return [None if nothing else tuple(row) for row, nothing in zip(values.tolist(), blank, strict=True)]


def _boxes(rows: list[Row], targets: dict[str, int], several: bool, findings: list[Finding]) -> tuple[Box, ...]:
    made = []
    for row in rows:
        if row.corners is not None:
            # A row of several labels does not say which of them its box shows.
            own = targets[row.labels[0]] if several and len(row.labels) == 1 else None
            made.append(repair_box(row.corners, row.where, findings, own))
    return tuple(box for box in made if box is not None)


def _tell_unlisted(root: Path, listed: set[Path], findings: list[Finding]) -> None:
    """Images in the folders of listed ones that no row names."""
    for folder in sorted({path.parent for path in listed}):
        for path in walk_files(folder):
            if path.parent == folder and path.suffix.lower() in SUFFIXES and path not in listed:
                findings.append(Finding("image without label", relative_id(path, root), "no row names it: left out"))

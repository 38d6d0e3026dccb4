"""Read a table of images: `index.csv` with columns file and label, and optionally split, box, mask, group.

Columns may have any order and any of the names below. An image with several boxes has one row for each. An image with
several classes has one row for each, or "a|b" in one row, which makes the data set multi-label. If labels are numbers,
a column of names (`name`, `breed`, ...) gives the class names.
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
    """One row of the table, with its files found."""

    path: Path
    where: str
    labels: tuple[str, ...]
    split: SplitName | None
    corners: tuple[float, ...] | None
    mask: Path | None
    group: str


def looks_like_index(path: Path) -> bool:
    """Return whether a file exists and has columns for files and labels.

    Raises:
        TableError: the table cannot be read.
    """
    if not path.is_file():
        return False
    table = read_table(path)
    return first_column(table, FILE) is not None and first_column(table, (*LABEL, *NAME)) is not None


def read_index_table(
    root: Path, path: Path, name: str, annotations: FolderAnnotations, inclusive: bool, findings: list[Finding]
) -> tuple[tuple[str, ...], list[SplitRecord], bool]:
    """Read the classes and images of a table, and whether an image may show several classes.

    Args:
        root: folder of the data set.
        path: the table.
        name: name of the data set, the first part of ids.
        annotations: masks beside the images, for images whose rows name none.
        inclusive: whether x1 and y1 are the last pixel inside the box.
        findings: list to which defects are added.

    Raises:
        TableError: the table cannot be read or lacks a column.
    """
    table = read_table(path, findings=findings)
    label_column = first_column(table, (*LABEL, *NAME))
    if first_column(table, FILE) is None or label_column is None:
        raise TableError(f"{path} lacks a column of: file, label; it has {', '.join(table.columns)}")
    classes, targets = _classes(table, label_column)
    rows_by_image: dict[Path, list[Row]] = {}
    for row in _read_rows(root, path, table, label_column, inclusive, findings):
        rows_by_image.setdefault(row.path, []).append(row)
    _report_unlisted(root, set(rows_by_image), findings)
    name_counts = pd.Series([path.name for path in rows_by_image], dtype=str).value_counts()
    records = []
    for file, rows in rows_by_image.items():
        image_targets = tuple(sorted({targets[label] for row in rows for label in row.labels}))
        boxes = _boxes(rows, targets, len(image_targets) > 1, findings)
        image_id = relative_id(file, root)
        folder_masks = annotations.of(image_id, name_counts[file.name] == 1).masks
        row_masks = [
            MaskFile(mask, annotations.mask_values) for mask in dict.fromkeys(row.mask for row in rows) if mask
        ]
        masks = tuple(row_masks) or folder_masks
        # A mask is more exact than the boxes around the same objects.
        record = Record(f"{name}/{image_id}", file, image_targets, () if masks else boxes, masks, rows[0].group)
        records.append(SplitRecord(record, rows[0].split))
    return classes, records, any(len(item.record.targets) > 1 for item in records)


def _classes(table: pd.DataFrame, label_column: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names, and the target of each label."""
    labels = sorted({label for text in table[label_column] for label in _split_labels(text)})
    if not all(label.removeprefix("-").isdecimal() for label in labels):
        return tuple(labels), {label: target for target, label in enumerate(labels)}
    labels.sort(key=int)
    targets = {label: target for target, label in enumerate(labels)}
    name_column = first_column(table, NAME)
    pairs = set() if name_column is None else set(zip(table[label_column], table[name_column], strict=True))
    names = dict(pairs)
    has_names = len(pairs) == len(labels) == len(set(names.values())) and set(names) == set(labels)
    return tuple(names[label] if has_names else label for label in labels), targets


def _split_labels(text: str) -> tuple[str, ...]:
    return tuple(label.strip() for label in text.split("|") if label.strip())


def _read_rows(
    root: Path, path: Path, table: pd.DataFrame, label_column: str, inclusive: bool, findings: list[Finding]
) -> Iterator[Row]:
    columns = [_column(table, names) for names in (FILE, (label_column,), SPLIT, MASK, GROUP)]
    for row, name, text, split_name, mask_name, group, corners in zip(
        table.index, *columns, _corners(table, inclusive), strict=True
    ):
        where, labels, split = f"{path.name}, row {row}", _split_labels(text), split_of(split_name)
        image_path = find_file(root, name, (*IMAGE_FOLDERS, split_name if split else "."))
        if image_path is None:
            findings.append(Finding("label without image", where, f"no file {name[:200]!r}"))
            continue
        if not labels:
            findings.append(Finding("image without label", where, f"{name[:200]!r} has none: left out"))
            continue
        mask = find_file(root, mask_name, (".", "masks")) if mask_name else None
        if mask_name and mask is None:
            findings.append(Finding("missing mask", where, f"no file {mask_name[:200]!r}: used without it"))
        yield Row(image_path, where, labels, split, corners, mask, group)


def _column(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    column = first_column(table, names)
    return [""] * len(table) if column is None else table[column].tolist()


def _corners(table: pd.DataFrame, inclusive: bool) -> list[tuple[float, ...] | None]:
    """Return the corners of each row, half-open; None for rows where all four are blank."""
    columns = corner_columns(table)
    if columns is None:
        return [None] * len(table)
    is_blank = (table[list(columns)] == "").all(axis=1)
    values = to_numbers(table, columns) + np.array([0, 0, inclusive, inclusive])
    return [None if blank else tuple(row) for row, blank in zip(values.tolist(), is_blank, strict=True)]


def _boxes(rows: list[Row], targets: dict[str, int], is_multi_label: bool, findings: list[Finding]) -> tuple[Box, ...]:
    boxes = []
    for row in rows:
        if row.corners is not None:
            # If a row has several labels, it is unknown which of them its box shows.
            target = targets[row.labels[0]] if is_multi_label and len(row.labels) == 1 else None
            boxes.append(repair_box(row.corners, row.where, findings, target))
    return tuple(box for box in boxes if box is not None)


def _report_unlisted(root: Path, listed: set[Path], findings: list[Finding]) -> None:
    """Add a finding for each image that no row names, in the folders of the listed images."""
    for folder in sorted({path.parent for path in listed}):
        for path in walk_files(folder):
            if path.parent == folder and path.suffix.lower() in SUFFIXES and path not in listed:
                findings.append(Finding("image without label", relative_id(path, root), "no row names it: left out"))

"""Read a table of images: `index.csv` with columns file and label, and optionally split, box, mask, group.

Columns may have any order and any name that `index_columns` knows or can tell. An image with several boxes has one row
for each. An image with several classes has one row for each, or "a|b" in one row, or a column of 0 and 1 for each
class, which makes the data set multi-label. If labels are numbers, a column of names (`name`, `breed`, ...) gives the
class names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.files.paths import FileFinder, find_file, relative_id, walk_files
from interp_core.datasets.files.split_words import splits_of_column
from interp_core.datasets.files.splits import SplitRecord
from interp_core.datasets.files.tables import TableError, read_table
from interp_core.datasets.formats.annotations import FolderAnnotations
from interp_core.datasets.formats.index_columns import (
    GROUP,
    IMAGE_FOLDERS,
    MASK,
    NAME,
    SPLIT,
    IndexColumns,
    find_index_columns,
    labels_of_rows,
)
from interp_core.datasets.formats.mask_folders import MASK_FOLDERS
from interp_core.datasets.formats.table_boxes import BoxFormat, RowBoxes, read_boxes, repair_row_boxes
from interp_core.datasets.records import Finding, MaskFile, Record, SplitName

# Below this share of images, rows of different classes are rather an error than several classes of an image.
RARE = 0.5


class Row(NamedTuple):
    """One row of the table, with its files found."""

    path: Path
    where: str
    labels: tuple[str, ...]
    split: SplitName | None
    boxes: RowBoxes | None
    mask: Path | None
    group: str


def lack_of_index(root: Path, path: Path, only_known: bool = True) -> str | None:
    """Return what a table lacks to be read as a table of images: None for nothing.

    Args:
        root: folder of the data set.
        path: the table, which exists.
        only_known: whether its columns of files and labels must have names that are known.
    """
    try:
        columns = find_index_columns(read_table(path), _finder(root), only_known)
    except TableError as error:
        return str(error)
    return columns if isinstance(columns, str) else None


def lists_images(root: Path, path: Path) -> bool:
    """Return whether a table of any name is one of images."""
    return lack_of_index(root, path) is None


def describe_index(root: Path, path: Path) -> str:
    """Return in a few words how the columns of a table of images are read."""
    columns = find_index_columns(read_table(path), _finder(root))
    return columns if isinstance(columns, str) else columns.describe()


def read_index_table(
    root: Path,
    path: Path,
    name: str,
    annotations: FolderAnnotations,
    inclusive: bool,
    findings: list[Finding],
    box_format: BoxFormat = "auto",
) -> tuple[tuple[str, ...], list[SplitRecord], bool]:
    """Read the classes and images of a table, and whether an image may show several classes.

    Args:
        root: folder of the data set.
        path: the table.
        name: name of the data set, the first part of ids.
        annotations: masks beside the images, for images whose rows name none.
        inclusive: whether x1 and y1 are the last pixel inside the box.
        findings: list to which defects are added.
        box_format: meaning of the four numbers of a box; "auto" for that of the names of its columns.

    Raises:
        TableError: the table cannot be read or lacks a column.
    """
    table = read_table(path, findings=findings)
    finder = _finder(root)
    columns = find_index_columns(table, finder)
    if isinstance(columns, str):
        raise TableError(f"{path} {columns}")
    _report_columns(path, columns, findings)
    labels = labels_of_rows(table, columns)
    classes, targets = _classes(table, columns, labels)
    rows_by_image: dict[Path, list[Row]] = {}
    for row in _read_rows(root, path, table, columns, labels, inclusive, box_format, finder, findings):
        rows_by_image.setdefault(row.path, []).append(row)
    if finder.moved:
        message = f"{len(finder.moved)} absolute paths are read by their end, beneath the folder of the data set"
        findings.append(Finding("absolute path", path.name, f"{message}: {finder.moved[0][:200]!r}"))
    _report_unlisted(root, set(rows_by_image), findings)
    _report_contradictions(rows_by_image, findings)
    name_counts = pd.Series([path.name for path in rows_by_image], dtype=str).value_counts()
    records = []
    for file, rows in rows_by_image.items():
        image_targets = tuple(sorted({targets[label] for row in rows for label in row.labels}))
        boxes, size = repair_row_boxes(_boxes(rows, targets, len(image_targets) > 1), findings)
        image_id = relative_id(file, root)
        folder_masks = annotations.of(image_id, name_counts[file.name] == 1).masks
        row_masks = [
            MaskFile(mask, annotations.mask_values) for mask in dict.fromkeys(row.mask for row in rows) if mask
        ]
        masks = tuple(row_masks) or folder_masks
        # A mask is more exact than the boxes around the same objects.
        record = Record(
            f"{name}/{image_id}",
            file,
            image_targets,
            () if masks else boxes,
            masks,
            rows[0].group,
            None if masks else size,
        )
        records.append(SplitRecord(record, next((row.split for row in rows if row.split), None)))
    return classes, records, any(len(item.record.targets) > 1 for item in records)


def _finder(root: Path) -> FileFinder:
    return FileFinder(root, [root / folder for folder in MASK_FOLDERS])


def _report_columns(path: Path, columns: IndexColumns, findings: list[Finding]) -> None:
    """Add a finding on columns that were told by their content, and on columns that nothing reads."""
    names_known = f"known columns: file, label, {', '.join((NAME[0], SPLIT[0], 'x0, y0, x1, y1', MASK[0], GROUP[0]))}"
    if columns.is_guess:
        findings.append(Finding("columns", path.name, f"read as {columns.describe()}; {names_known}"))
    elif misspelt := columns.misspelt():
        message = f"{', '.join(misspelt)}: not a known name; read as {columns.describe()}; {names_known}"
        findings.append(Finding("unknown column", path.name, message))


def _classes(
    table: pd.DataFrame, columns: IndexColumns, labels: Sequence[tuple[str, ...]]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names, and the target of each label; numbers in their order, equal ones as one class."""
    if columns.one_hot:
        return columns.one_hot, {label: target for target, label in enumerate(columns.one_hot)}
    names = sorted({label for row in labels for label in row})
    if not all(label.removeprefix("-").isdecimal() for label in names):
        return _fractional_classes(names) or (tuple(names), {label: target for target, label in enumerate(names)})
    names.sort(key=int)
    targets = {label: target for target, label in enumerate(names)}
    pairs = set() if columns.name is None else set(zip(table[columns.label], table[columns.name], strict=True))
    titles = dict(pairs)
    has_names = len(pairs) == len(names) == len(set(titles.values())) and set(titles) == set(names)
    return tuple(titles[label] if has_names else label for label in names), targets


def _fractional_classes(labels: list[str]) -> tuple[tuple[str, ...], dict[str, int]] | None:
    """Return classes written as decimal numbers, such as 1.0 and 10.0, in their order; None for other labels."""
    try:
        values = {label: float(label) for label in labels}
    except ValueError:
        return None
    if not all(map(math.isfinite, values.values())):
        return None
    names: dict[float, str] = {}
    for label in sorted(labels, key=lambda label: (values[label], label)):
        names.setdefault(values[label], label)
    order = list(names)
    return tuple(names.values()), {label: order.index(values[label]) for label in labels}


def _read_rows(
    root: Path,
    path: Path,
    table: pd.DataFrame,
    columns: IndexColumns,
    labels: Sequence[tuple[str, ...]],
    inclusive: bool,
    box_format: BoxFormat,
    finder: FileFinder,
    findings: list[Finding],
) -> Iterator[Row]:
    names, split_names, mask_names, groups = (
        _column(table, name) for name in (columns.file, columns.split, columns.mask, columns.group)
    )
    splits, note = splits_of_column(columns.split or "", split_names)
    if note:
        findings.append(Finding("split", f"{path.name}, column {columns.split}", note))
    boxes = read_boxes(
        table, path, inclusive, findings, box_format, lambda position: finder.find(names[position], IMAGE_FOLDERS)
    )
    for position, (row, name) in enumerate(zip(table.index, names, strict=True)):
        location, split_name = f"{path.name}, row {row}", split_names[position]
        split = splits.get(split_name)
        image_path = finder.find(name, (*IMAGE_FOLDERS, split_name if split else "."))
        if image_path is None:
            findings.append(Finding("label without image", location, f"no file {name[:200]!r}{finder.reason(name)}"))
            continue
        if not labels[position]:
            findings.append(Finding("image without label", location, f"{name[:200]!r} has none: left out"))
            continue
        mask_name = mask_names[position]
        mask = find_file(root, mask_name, (".", *MASK_FOLDERS)) if mask_name else None
        if mask_name and mask is None:
            findings.append(Finding("missing mask", location, f"no file {mask_name[:200]!r}: used without it"))
        yield Row(
            image_path, location, labels[position], split, boxes[position] if boxes else None, mask, groups[position]
        )


def _column(table: pd.DataFrame, name: str | None) -> list[str]:
    return [""] * len(table) if name is None else table[name].tolist()


def _boxes(rows: list[Row], targets: dict[str, int], is_multi_label: bool) -> list[tuple[RowBoxes, int | None]]:
    """Return the boxes of the rows of an image, with the class they show; None where a row has several labels."""
    return [
        (row.boxes, targets[row.labels[0]] if is_multi_label and len(row.labels) == 1 else None)
        for row in rows
        if row.boxes is not None
    ]


def _report_contradictions(rows_by_image: dict[Path, list[Row]], findings: list[Finding]) -> None:
    """Add findings on images whose rows differ in their split, or in their class where that is rare."""
    contradictions = []
    for rows in rows_by_image.values():
        if len({row.split for row in rows}) > 1:
            findings.append(
                Finding("contradicting rows", rows[-1].where, "the image has another split before: first used")
            )
        has_boxes = any(row.boxes is not None and row.boxes.boxes for row in rows)
        if len({row.labels for row in rows}) > 1 and not has_boxes:
            contradictions.append(rows)
    if contradictions and len(contradictions) < RARE * len(rows_by_image):
        rows = contradictions[0]
        labels = ", ".join(sorted({"|".join(row.labels) for row in rows}))
        count = f"{len(contradictions)} of {len(rows_by_image)} images have rows of different classes ({labels})"
        message = f"{count}: read as images of several classes; delete one of the rows if it is an error"
        findings.append(Finding("contradicting rows", rows[-1].where, message))


def _report_unlisted(root: Path, listed: set[Path], findings: list[Finding]) -> None:
    """Add a finding for each image that no row names, in the folders of the listed images."""
    for folder in sorted({path.parent for path in listed}):
        for path in walk_files(folder):
            if path.parent == folder and path.suffix.lower() in SUFFIXES and path not in listed:
                findings.append(Finding("image without label", relative_id(path, root), "no row names it: left out"))

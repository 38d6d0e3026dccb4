"""Tell which columns of a table of images hold files, labels, splits, masks and groups.

Known names come first. Where there are none, the column of files is the one whose values are files of the folder, and
the label is the only other column, or one column of 0 and 1 for each class.
Known limits: a table with two or more unknown columns that may be labels is refused, with the names that are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import pandas as pd

from interp_core.datasets.files.paths import FileFinder
from interp_core.datasets.files.split_words import FLAGS
from interp_core.datasets.files.tables import first_column
from interp_core.datasets.formats.annotations import FILE, LABEL
from interp_core.datasets.formats.table_boxes import box_columns

NAME = ("name", "class_name", "label_name", "breed", "species")
FURTHER_LABELS = (
    "labels", "classes", "classname", "class_label", "category_name", "category_id", "diagnosis", "dx", "disease",
    "finding", "pathology", "tag", "tags", "y", "outcome", "ground_truth",
)  # fmt: skip
SPLIT = (
    "split",
    "set",
    "subset",
    "partition",
    "usage",
    "phase",
    "data_split",
    "dataset_split",
    "fold",
    "kfold",
    *FLAGS,
)
MASK = ("mask", "mask_file", "mask_path", "mask_name", "segmentation")
GROUP = ("group", "patient", "patient_id", "patientid", "subject", "subject_id")
IMAGE_FOLDERS = (".", "images", "image", "img")
# Columns about the image that need no finding.
SILENT = frozenset({"", "width", "height", "image_width", "image_height", "index"})
ROWS_PROBED = 50
FEW_ROWS = 4
# Similarity from which a name counts as a misspelt known one.
CLOSE = 0.8
BINARY = frozenset({"0", "1", "0.0", "1.0", "-1", "-1.0", "true", "false"})
# Text of a missing value in tables that pandas wrote.
NO_LABELS = frozenset({"", "nan", "NaN", "<NA>"})
POSITIVE = frozenset({"1", "1.0", "true"})


@dataclass(frozen=True)
class IndexColumns:
    """Columns of a table of images by what they hold.

    Attributes:
        file: paths of images.
        label: labels, or names of classes; "" if there is a column for each class.
        one_hot: columns of 0 and 1, one for each class.
        name: names of numbered classes, or None.
        split: splits, or None.
        mask: masks, or None.
        group: groups, or None.
        unused: columns that nothing reads.
        is_guess: whether the file or the label is told by content.
    """

    file: str
    label: str
    one_hot: tuple[str, ...]
    name: str | None
    split: str | None
    mask: str | None
    group: str | None
    unused: tuple[str, ...]
    is_guess: bool

    def describe(self) -> str:
        """Return in a few words which columns are read as what."""
        label = self.label or f"one column for each of {len(self.one_hot)} classes"
        roles = {"file": self.file, "label": label, "split": self.split, "mask": self.mask, "group": self.group}
        used = ", ".join(f"{role} from {column}" for role, column in roles.items() if column)
        return used + (f"; not used: {', '.join(self.unused[:10])}" if self.unused else "")

    def misspelt(self) -> tuple[str, ...]:
        """Return the unused columns whose names are nearly those of a role that no column has."""
        free = [(self.split, SPLIT), (self.mask, MASK), (self.group, GROUP), (self.name, NAME)]
        names = [name for column, names in free if column is None for name in names]
        return tuple(name for name in self.unused if get_close_matches(name, names, 1, CLOSE))


def find_index_columns(table: pd.DataFrame, finder: FileFinder, only_known: bool = False) -> IndexColumns | str:
    """Return the columns of a table of images, or what it lacks.

    Args:
        table: the table.
        finder: finder of the files that it names.
        only_known: whether file and label must have names that are known.
    """
    file = first_column(table, FILE)
    label = first_column(table, (*LABEL, *NAME))
    if file is not None and label is None and _share_of_files(table[file], finder) >= 0.5:
        label = first_column(table, FURTHER_LABELS)
    is_guess = file is None or label not in (*LABEL, *NAME)
    if only_known and (file is None or label is None):
        return _lack(table, file, label)
    if file is None or (not only_known and _share_of_files(table[file], finder) == 0):
        file = _column_of_files(table, finder) or file
    if file is None:
        return _lack(table, None, label)
    split, mask, group = (
        first_column(table, [name for name in names if name != file]) for names in (SPLIT, MASK, GROUP)
    )
    used = {file, *(name for name in (split, mask, group) if name), *box_columns(table)}
    label = first_column(table, [name for name in (*LABEL, *NAME, *FURTHER_LABELS) if name not in used])
    remaining = [name for name in table.columns if name not in used and not _is_silent(name)]
    one_hot: tuple[str, ...] = ()
    if label is None:
        one_hot = tuple(name for name in remaining if _is_binary(table[name]))
        if len(one_hot) < 2:
            label, one_hot = _only_label(table, remaining), ()
    if label is None and not one_hot:
        return _lack(table, file, None)
    name = first_column(table, [name for name in NAME if name not in used])
    unused = tuple(column for column in remaining if column not in (label, name, *one_hot))
    return IndexColumns(file, label or "", one_hot, name, split, mask, group, unused, is_guess)


def labels_of_rows(table: pd.DataFrame, columns: IndexColumns) -> list[tuple[str, ...]]:
    """Return the labels of each row; () where there is none."""
    if columns.label:
        return [() if text in NO_LABELS else split_labels(text) for text in table[columns.label]]
    marks = table[list(columns.one_hot)].apply(lambda column: column.str.lower().isin(POSITIVE)).to_numpy()
    return [tuple(name for name, mark in zip(columns.one_hot, row, strict=True) if mark) for row in marks]


def split_labels(text: str) -> tuple[str, ...]:
    """Return the labels of a cell, such as "a|b"."""
    return tuple(label.strip() for label in text.split("|") if label.strip())


def _lack(table: pd.DataFrame, file: str | None, label: str | None) -> str:
    """Return what a table lacks, what it has, and which names are known."""
    lacks = [
        f"{role} (known: {', '.join(names[:6])})"
        for role, column, names in (("file", file, FILE), ("label", label, (*LABEL, *NAME)))
        if column is None
    ]
    has = ", ".join(str(name) for name in table.columns[:20])
    return f"lacks a column of: {' and of: '.join(lacks)}; it has {has}"


def _column_of_files(table: pd.DataFrame, finder: FileFinder) -> str | None:
    shares = {name: _share_of_files(table[name], finder) for name in table.columns}
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] >= 0.5 else None


def _share_of_files(values: Iterable[str], finder: FileFinder) -> float:
    probes = [value for value in values if value][:ROWS_PROBED]
    return sum(finder.has(value, IMAGE_FOLDERS) for value in probes) / max(1, len(probes))


def _only_label(table: pd.DataFrame, left: list[str]) -> str | None:
    """Return the only column whose values repeat, as labels do; of a short table the only column."""
    if len(left) == 1 and (len(table) <= FEW_ROWS or table[left[0]].nunique() < len(table)):
        return left[0]
    repeating = [name for name in left if 2 <= table[name].nunique() <= max(2, len(table) // 2)]
    return repeating[0] if len(repeating) == 1 else None


def _is_binary(values: pd.Series[str]) -> bool:
    distinct = {value.lower() for value in values} - {""}
    return bool(distinct) and distinct <= BINARY


def _is_silent(name: str) -> bool:
    return name in SILENT or name.startswith("unnamed:")

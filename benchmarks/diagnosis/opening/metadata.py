"""Columns of facts about images: from a user's table, and from the headers of the image files.

Rows of a table are matched to images by their column `file` or `id`: by the id or the path from the root of the data
set, else by the file name, else by the name without its ending. A name that fits two images fits neither.
File properties are named "file:width" and so on. They are read from headers in threads, without decoding pixels. The
format is the ending of the file's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from interp_core.datasets import FileImageSet, Images
from interp_core.datasets.files.images import UnreadableImage, read_size
from interp_core.errors import InterpError, one_line

KEYS = ("file", "id")
FILE_PROPERTIES = ("file:width", "file:height", "file:aspect", "file:bytes", "file:format")
THREADS = 8


class MetadataError(InterpError):
    """A table of metadata that cannot be used."""


@dataclass(frozen=True)
class Metadata:
    """Columns of facts about images.

    Attributes:
        columns: (N,) numbers or text by name, in the order of the split, NaN or "" where unknown.
        unmatched_rows: rows of the table that fit no image of the split.
        unmatched_images: images that have no row.
    """

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    unmatched_rows: int = 0
    unmatched_images: int = 0


def read_metadata(path: Path, images: Images, root: Path | None = None) -> Metadata:
    """Read a table and match its rows to images.

    Args:
        path: CSV or Parquet file with a column `file` or `id`.
        images: one split.
        root: of the data set, from which paths of the table begin.

    Raises:
        MetadataError: the file cannot be read, has no key, or none of its rows fits an image.
    """
    table = _read_table(path)
    key = next((name for name in KEYS if name in table.columns), None)
    if key is None:
        raise MetadataError(
            f"{path} has no column {' or '.join(KEYS)}: its columns are {', '.join(table.columns[:12])}"
        )
    if table.empty:
        raise MetadataError(f"{path} has no rows")
    rows = match_rows([str(value) for value in table[key]], image_names(images, root))
    matched = rows >= 0
    if not matched.any():
        raise MetadataError(f"{path}: no {key} names an image; the first is {table[key].iloc[0]!r}, {images.ids[0]!r}")
    columns = {str(name): _take(table[name], rows) for name in table.columns if name not in KEYS}
    used = len(np.unique(rows[matched]))
    return Metadata(columns, len(table) - used, int((~matched).sum()))


@dataclass(frozen=True)
class Names:
    """What a row may call an image.

    Attributes:
        full: its id, with and without the name of the data set, and its path from the root.
        file: file name.
        stem: file name without its ending.
    """

    full: tuple[str, ...]
    file: str
    stem: str


def match_rows(keys: Sequence[str], names: Sequence[Names]) -> np.ndarray:
    """Return the row (N,) int of each image, -1 for none; of rows with the same key the first counts."""
    keys = [key.replace("\\", "/") for key in keys]
    whole = _unique_rows(keys, str)
    rows = np.array([next((whole[name] for name in entry.full if name in whole), -1) for entry in names], np.int64)
    for form, attribute in ((_file_name, "file"), (_stem, "stem")):
        lookup, texts = _unique_rows(keys, form), [getattr(entry, attribute) for entry in names]
        counts = Counter(texts)
        for i in np.flatnonzero(rows < 0):
            if counts[texts[i]] == 1:
                rows[i] = lookup.get(texts[i], -1)
    return rows


def image_names(images: Images, root: Path | None = None) -> list[Names]:
    """Return what a row may call each image."""
    if not isinstance(images, FileImageSet):
        return [_names(name, name, Path(name), None) for name in images.ids]
    return [_names(item.id, item.record.id, item.record.path, root) for item in images.items]


def file_properties(images: Images, report: Callable[[int, int], None] | None = None) -> dict[str, np.ndarray]:
    """Read width, height, aspect, size in bytes and format of image files from their headers.

    Args:
        images: one split; images in memory have no such properties.
        report: called with the number of files read and of all.

    Returns:
        Columns (N,) by the names of `FILE_PROPERTIES`; NaN and "" for files that cannot be read. Empty for images in
        memory.
    """
    if not isinstance(images, FileImageSet):
        return {}
    paths = [item.record.path for item in images.items]
    rows = []
    with ThreadPoolExecutor(THREADS) as pool:
        for row in pool.map(_properties, paths):
            rows.append(row)
            if report is not None and (len(rows) % 500 == 0 or len(rows) == len(paths)):
                report(len(rows), len(paths))
    numbers = np.array([row[:-1] for row in rows], np.float64).reshape(-1, len(FILE_PROPERTIES) - 1)
    columns = dict(zip(FILE_PROPERTIES, numbers.T, strict=False))
    return {**columns, FILE_PROPERTIES[-1]: np.array([row[-1] for row in rows])}


def _properties(path: Path) -> tuple[float, float, float, float, str]:
    nothing = float("nan")
    try:
        width, height = read_size(path)
        return width, height, width / height, path.stat().st_size, path.suffix.lower().lstrip(".")
    except (UnreadableImage, OSError):
        return nothing, nothing, nothing, nothing, ""


def _names(public_id: str, record_id: str, path: Path, root: Path | None) -> Names:
    inside = root is not None and path.is_relative_to(root)
    relative = path.relative_to(root) if inside and root is not None else path
    full = (public_id, record_id, record_id.partition("/")[2] or record_id, relative.as_posix())
    return Names(full, path.name, path.stem)


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else pd.read_csv(path)
    except FileNotFoundError as error:
        raise MetadataError(f"no file {path}: --metadata takes a CSV or Parquet file") from error
    except (OSError, ValueError, UnicodeDecodeError, ImportError) as error:
        raise MetadataError(f"cannot read {path}: {one_line(error, limit=200)}") from error


def _take(column: Any, rows: np.ndarray) -> np.ndarray:
    """Return the values of a column at rows (N,) int; NaN or "" where a row is -1."""
    values = column.reindex(rows)
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    return values.astype(object).where(values.notna(), "").astype(str).to_numpy(str)


def _unique_rows(keys: Sequence[str], form: Callable[[str], str]) -> dict[str, int]:
    """Return the first row of each key in a form, without forms that different keys share."""
    rows: dict[str, int] = {}
    ambiguous = set()
    for row, key in enumerate(keys):
        first = rows.setdefault(form(key), row)
        if keys[first] != key:
            ambiguous.add(form(key))
    return {name: row for name, row in rows.items() if name not in ambiguous}


def _file_name(path: str) -> str:
    return PurePath(path).name


def _stem(path: str) -> str:
    return PurePath(path).stem

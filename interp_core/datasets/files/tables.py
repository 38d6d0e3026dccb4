"""Tables as people have them: any usual encoding, line end, separator and order of columns; read by pandas, as text.

Values stay text until somebody asks for numbers, so that an identifier such as 007 is not taken for one.
Known limits: without a byte order mark what is not UTF-8 is read as Latin-1, in which every file can be read; a row
with too many fields loses those behind the last column, and that is said.
"""

from __future__ import annotations

import codecs
import csv
import warnings
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp_core.datasets.records import Finding
from interp_core.errors import InterpError, one_line

# Longest first: the mark of UTF-32 begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEPARATORS = ",;\t"


class TableError(InterpError):
    """A table of a data set that cannot be read, or lacks what is needed."""


def read_text(path: Path, called: str = "") -> str:
    """The text of a file, whatever usual encoding it has, every line ended by a line feed.

    Args:
        path: the file.
        called: what the data set's page calls it, for the error.

    Raises:
        TableError: the file cannot be opened.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TableError(f"cannot read {_told(path, called)}: {error.strerror or error}") from error
    return _decoded(raw).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def read_table(
    path: Path, need: Sequence[str] = (), called: str = "", findings: list[Finding] | None = None
) -> pd.DataFrame:
    """A table with a header, all values stripped text, "" where there is none.

    Args:
        path: the file; separated by commas, semicolons or tabs.
        need: columns that must be there; capitals and blanks around names do not matter.
        called: what the data set's page calls it, for errors.
        findings: is told of rows that had to be cut and of rows that occur twice, which are dropped.

    Returns:
        columns named in lower case; the index counts rows of the table from 1.

    Raises:
        TableError: it cannot be read or a column is missing.
    """
    text = read_text(path, called)
    header = text.lstrip("\n").partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)
    told = [] if findings is None else findings
    table = _parsed(text, path, called, told, sep=separator, header=0)
    table.columns = pd.Index([str(name).strip().lower() for name in table.columns])
    table = table.loc[:, ~table.columns.duplicated()]
    missing = [name for name in need if name.lower() not in table.columns]
    if missing:
        has = ", ".join(table.columns[:20])
        raise TableError(f"{_told(path, called)} lacks the column {', '.join(missing)}; it has {has}")
    return _without_duplicates(_finished(table), path, told)


def read_celeba_table(
    path: Path, columns: Sequence[str] = (), called: str = "", findings: list[Finding] | None = None
) -> pd.DataFrame:
    """A list in CelebA's manner: a file name and values, separated by blanks, beneath a count and names of columns.

    Args:
        path: the file.
        columns: names of the values where the file names none.
        called: what the data set's page calls it, for errors.
        findings: is told of rows cut, rows that occur twice and a count that is not kept.

    Returns:
        the column "file", then the values, under the file's own names; the index counts rows from 1.

    Raises:
        TableError: it cannot be read or has neither names nor as many columns as expected.
    """
    told = [] if findings is None else findings
    lines = [line for line in read_text(path, called).split("\n") if line.strip()]
    count = int(lines.pop(0)) if lines and lines[0].strip().isdecimal() and len(lines[0]) < 12 else None
    names = lines.pop(0).split() if lines and (count is not None or not columns) else list(columns)
    if not lines or not names:
        raise TableError(f"{_told(path, called)} holds no rows")
    if len(lines[0].split()) == len(names):
        names = names[1:]
    if len(set(names)) < len(names):
        raise TableError(f"{_told(path, called)} names a column twice")
    options = {"sep": r"\s+", "header": None, "names": ["file", *names]}
    table = _finished(_parsed("\n".join(lines), path, called, told, **options))
    if count is not None and count != len(table):
        told.append(Finding("count", path.name, f"says {count} rows and has {len(table)}: those it has are used"))
    return _without_duplicates(table, path, told)


def to_numbers(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Values of some columns (rows, columns) as float64; NaN where a value is no number."""
    if not columns:
        return np.empty((len(table), 0))
    return np.stack([pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in columns], 1)


def first_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The first of these names that is a column."""
    return next((name for name in names if name in table.columns), None)


def _decoded(raw: bytes) -> str:
    for mark, encoding in MARKS:
        if raw.startswith(mark):
            return raw.decode(encoding, errors="replace")
    if b"\0" in raw[:1000]:
        return raw.decode("utf-16-be" if raw[0] == 0 else "utf-16-le", errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _parsed(text: str, path: Path, called: str, findings: list[Finding], **options: Any) -> pd.DataFrame:
    """The table by pandas' quick parser, else row by row by its patient one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", pd.errors.ParserWarning)
        table = _read(text, path, called, findings, options)
    if any(issubclass(entry.category, pd.errors.ParserWarning) for entry in caught):
        findings.append(
            Finding("row", path.name, "rows have more fields than the header names: the last ones left out")
        )
    return table


def _read(text: str, path: Path, called: str, findings: list[Finding], options: dict[str, Any]) -> pd.DataFrame:
    options |= {"dtype": str, "keep_default_na": False, "index_col": False}
    try:
        return pd.read_csv(StringIO(text), **options)
    except (ValueError, csv.Error):  # too many fields in a row, among others; the patient parser says what
        pass

    def cut(row: list[str]) -> list[str]:
        findings.append(Finding("row", path.name, f"too many fields, the last ones left out: {' '.join(row)[:60]!r}"))
        return row[:width]

    try:
        width = pd.read_csv(StringIO(text), nrows=0, **options).shape[1]
        return pd.read_csv(StringIO(text), engine="python", on_bad_lines=cut, **options)
    except (ValueError, csv.Error) as error:
        raise TableError(f"cannot read {_told(path, called)} as a table: {one_line(error)}") from error


def _finished(table: pd.DataFrame) -> pd.DataFrame:
    table = table.fillna("")
    table = table.apply(lambda column: column.astype(str).str.strip())
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table


def _without_duplicates(table: pd.DataFrame, path: Path, findings: list[Finding]) -> pd.DataFrame:
    twice = table.duplicated()
    findings += [
        Finding("duplicate row", f"{path.name}, row {row}", "said before: left out") for row in table.index[twice]
    ]
    return table[~twice]


def _told(path: Path, called: str) -> str:
    return f"{path} ({called})" if called else str(path)

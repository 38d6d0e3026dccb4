"""Read tables and lists in any usual encoding, line ending, separator and order of columns.

pandas parses them. Values stay text until a caller asks for numbers, so that an identifier such as 007 keeps its zeros.
Known limits: without a byte order mark, text that is not UTF-8 is read as Latin-1, which accepts every file. A row with
too many fields loses the last ones, which is reported.
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
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEPARATORS = ",;\t|"


class TableError(InterpError):
    """A table that cannot be read, or that lacks a column."""


def read_text(path: Path, description: str = "") -> str:
    """Read a text file of any usual encoding, with line feeds as line endings.

    Args:
        path: the file.
        description: what the page of the data set calls the file, for errors.

    Raises:
        TableError: the file cannot be opened.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TableError(f"cannot read {_describe(path, description)}: {error.strerror or error}") from error
    return _decode(content).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def read_table(
    path: Path, need: Sequence[str] = (), description: str = "", findings: list[Finding] | None = None
) -> pd.DataFrame:
    """Read a table with a header as stripped text, "" for missing values.

    Args:
        path: the file; separated by commas, semicolons or tabs.
        need: columns that must be present. Case and blanks around names do not matter.
        description: what the page of the data set calls the file, for errors.
        findings: list to which rows with too many fields and duplicate rows are added; duplicates are dropped.

    Returns:
        The table with column names in lower case and an index that counts rows from 1.

    Raises:
        TableError: the table cannot be read or a column is missing.
    """
    text = read_text(path, description)
    if text[:4].lower() == "sep=":  # a hint for Excel
        text = text.partition("\n")[2]
    header = text.lstrip("\n").partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)
    findings = [] if findings is None else findings
    table = _parse(text, path, description, findings, sep=separator, header=0)
    table.columns = pd.Index([str(name).strip().lower() for name in table.columns])
    table = table.loc[:, ~table.columns.duplicated()]
    missing = [name for name in need if name.lower() not in table.columns]
    if missing:
        has = ", ".join(table.columns[:20])
        raise TableError(f"{_describe(path, description)} lacks the column {', '.join(missing)}; it has {has}")
    return _drop_duplicates(_strip_values(table), path, findings)


def read_celeba_table(
    path: Path, columns: Sequence[str] = (), description: str = "", findings: list[Finding] | None = None
) -> pd.DataFrame:
    """Read a table in the format of CelebA: file names and values separated by blanks.

    A row count and a row of column names may stand above.

    Args:
        path: the file.
        columns: names of the values, if the file has none.
        description: what the page of the data set calls the file, for errors.
        findings: list to which rows with too many fields, duplicate rows and a wrong row count are added.

    Returns:
        The column "file" and then the values under the names of the file; the index counts rows from 1.

    Raises:
        TableError: the table cannot be read, has no rows, or names a column twice.
    """
    findings = [] if findings is None else findings
    lines = [line for line in read_text(path, description).split("\n") if line.strip()]
    count = int(lines.pop(0)) if lines and lines[0].strip().isdecimal() and len(lines[0]) < 12 else None
    names = lines.pop(0).split() if lines and (count is not None or not columns) else list(columns)
    if not lines or not names:
        raise TableError(f"{_describe(path, description)} holds no rows")
    if len(lines[0].split()) == len(names):
        names = names[1:]
    if len(set(names)) < len(names):
        raise TableError(f"{_describe(path, description)} names a column twice")
    options = {"sep": r"\s+", "header": None, "names": ["file", *names]}
    table = _strip_values(_parse("\n".join(lines), path, description, findings, **options))
    if count is not None and count != len(table):
        findings.append(Finding("count", path.name, f"says {count} rows but has {len(table)}, which are used"))
    return _drop_duplicates(table, path, findings)


def to_numbers(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Convert columns to float64 (rows, columns); NaN for values that are not numbers."""
    if not columns:
        return np.empty((len(table), 0))
    return np.stack([pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in columns], 1)


def first_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """Return the first of these names that is a column, or None."""
    return next((name for name in names if name in table.columns), None)


def _decode(content: bytes) -> str:
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if b"\0" in content[:1000]:
        return content.decode("utf-16-be" if content[0] == 0 else "utf-16-le", errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _parse(text: str, path: Path, description: str, findings: list[Finding], **options: Any) -> pd.DataFrame:
    """Parse a table with the fast parser of pandas, or else with its tolerant one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", pd.errors.ParserWarning)
        table = _read_csv(text, path, description, findings, options)
    if any(issubclass(entry.category, pd.errors.ParserWarning) for entry in caught):
        findings.append(Finding("row", path.name, "rows have more fields than the header: the last ones are ignored"))
    return table


def _read_csv(
    text: str, path: Path, description: str, findings: list[Finding], options: dict[str, Any]
) -> pd.DataFrame:
    options |= {"dtype": str, "keep_default_na": False, "index_col": False}
    table: pd.DataFrame
    try:
        table = pd.read_csv(StringIO(text), **options)
        return table
    except (ValueError, csv.Error):  # such as too many fields in a row, which the tolerant parser reports
        pass

    def cut_row(row: list[str]) -> list[str]:
        findings.append(
            Finding("row", path.name, f"too many fields, the last ones are ignored: {' '.join(row)[:60]!r}")
        )
        return row[:width]

    try:
        width = pd.read_csv(StringIO(text), nrows=0, **options).shape[1]
        table = pd.read_csv(StringIO(text), engine="python", on_bad_lines=cut_row, **options)
        return table
    except (ValueError, csv.Error) as error:
        raise TableError(f"cannot read {_describe(path, description)} as a table: {one_line(error)}") from error


def _strip_values(table: pd.DataFrame) -> pd.DataFrame:
    table = table.fillna("")
    table = table.apply(lambda column: column.astype(str).str.strip())
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table


def _drop_duplicates(table: pd.DataFrame, path: Path, findings: list[Finding]) -> pd.DataFrame:
    is_duplicate = table.duplicated()
    findings += [
        Finding("duplicate row", f"{path.name}, row {row}", "duplicate of an earlier row, ignored")
        for row in table.index[is_duplicate]
    ]
    return table[~is_duplicate]


def _describe(path: Path, description: str) -> str:
    return f"{path} ({description})" if description else str(path)

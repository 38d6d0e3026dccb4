"""Keep the rows of a study in a CSV file, so that a study that was stopped continues where it was.

The file is replaced as a whole after every row. A last line that is cut off, as a copy of a running study or a full
disk leaves it, is dropped and computed again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.store.atomic import write_atomically

Row = Mapping[Any, Any]


class ResumableTable:
    """A CSV file that is written row by row.

    Args:
        path: of the file; rows in it are kept.
        keys: columns that identify a unit of work, which may have several rows.
        sort: columns to sort the file by; empty for the order of computation.
        float_format: of numbers with a fraction.
    """

    def __init__(
        self, path: Path, keys: Sequence[str], *, sort: Sequence[str] = (), float_format: str = "%.4g"
    ) -> None:
        self.path, self.keys = path, tuple(keys)
        self._sort, self._float_format = list(sort), float_format
        self._rows = read_rows(path)
        self._units = {self._unit_of(row) for row in self._rows}

    def __contains__(self, unit: object) -> bool:
        return unit in self._units

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def units(self) -> set[tuple[Any, ...]]:
        """Values of the key columns of all rows."""
        return set(self._units)

    @property
    def frame(self) -> pd.DataFrame:
        """All rows, in the order of computation."""
        return pd.DataFrame(self._rows)

    def add(self, *rows: Row) -> None:
        """Append rows and write the file.

        Raises:
            StoreError: the file cannot be written.
        """
        self._rows += [dict(row) for row in rows]
        self._units |= {self._unit_of(row) for row in rows}
        frame = self.frame.sort_values(self._sort) if self._sort else self.frame
        write_atomically(self.path, frame.to_csv(index=False, float_format=self._float_format))

    def drop_others(self, units: Collection[tuple[Any, ...]]) -> None:
        """Forget rows of units that are not in `units`; the file changes with the next row."""
        self._rows = [row for row in self._rows if self._unit_of(row) in units]
        self._units &= set(units)

    def missing(self, units: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the units without a row, in order."""
        return [unit for unit in units if unit not in self._units]

    def _unit_of(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[key] for key in self.keys)


def read_rows(path: Path) -> list[dict[Any, Any]]:
    """Read the complete rows of a table, none if there is no file.

    Commits stay text, although some look like numbers.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    lines = list(csv.reader(io.StringIO(text)))
    if lines and (len(lines[-1]) != len(lines[0]) or not text.endswith("\n")):
        lines.pop()
    if len(lines) < 2:
        return []
    complete = io.StringIO()
    csv.writer(complete, lineterminator="\n").writerows(lines)
    complete.seek(0)
    return pd.read_csv(complete, dtype={"commit": str}).to_dict("records")

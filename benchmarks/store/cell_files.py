"""Read and write cells as Parquet files: one in a file of its own, or many in one.

A cell has the per-image scores of one (model, explainer, metric, shard, seed) and their provenance. The layout of the
files has a number. A file with a newer layout is refused: it is sound, but this version cannot know what it means.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.store.locations import Location, writing
from benchmarks.store.run_data import SCORE_COLUMNS
from interp_core.errors import StoreError, one_line

SCHEMA = 1
# Key of the provenance in the metadata of a Parquet file.
PROVENANCE = b"interp-bench"
PACKED = "cells.parquet"
# Columns of the packed file besides those of a cell.
KEY_COLUMN, PROVENANCE_COLUMN = "key", "provenance"
_TYPES = dict.fromkeys(SCORE_COLUMNS, pa.string()) | {
    "seed": pa.int64(),
    "value": pa.float64(),
    "degenerate": pa.bool_(),
}
LAYOUT = pa.schema([(name, _TYPES[name]) for name in SCORE_COLUMNS])


class NewerError(StoreError):
    """A file written by a later version of the project."""

    def __init__(self, path: object, schema: int) -> None:
        super().__init__(
            f"{path} has layout {schema}, and this version reads layouts up to {SCHEMA}: update interp-bench"
        )


class PackedCells:
    """The cells of a run that are in one file; see `benchmarks.store.packing`.

    Args:
        table: columns of cells, `KEY_COLUMN` and `PROVENANCE_COLUMN`; the rows of a key follow each other.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._spans: dict[str, tuple[int, int]] = {}
        for row, key in enumerate(table[KEY_COLUMN].to_pylist()):
            start, length = self._spans.get(key, (row, 0))
            self._spans[key] = start, length + 1

    @classmethod
    def read(cls, folder: Location) -> PackedCells:
        """Read the packed cells of a run's folder; there are none if it has no such file.

        Raises:
            StoreError: the file is damaged or is something else.
        """
        path = folder / PACKED
        if not path.exists():
            return cls(pa.table({KEY_COLUMN: pa.array([], pa.string())}))
        layout = pa.schema([*LAYOUT, (KEY_COLUMN, pa.string()), (PROVENANCE_COLUMN, pa.string())])
        try:
            table = pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
            return cls(table.select(layout.names).cast(layout))
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"cannot read {path}: {one_line(error)}; copy it again, or delete it and run again"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, key: str) -> bool:
        return key in self._spans

    def rows(self, key: str) -> pa.Table:
        """Return all columns of a cell."""
        return self._table.slice(*self._spans[key])

    def scores(self, key: str) -> pa.Table:
        """Return the scores of a cell, in the present layout."""
        return self.rows(key).select(list(SCORE_COLUMNS))


def write_columns(path: Location, content: pa.Table, provenance: str) -> None:
    """Write the scores of a cell, with their provenance as JSON."""
    metadata = {b"schema": str(SCHEMA).encode(), PROVENANCE: provenance.encode()}
    with writing(path) as local:
        pq.write_table(content.replace_schema_metadata(metadata), local)


def read_cell(path: Location) -> pd.DataFrame:
    """Read the scores of a cell as a data frame.

    Raises:
        NewerError: a later version has written it.
        StoreError: the file is damaged or is something else.
    """
    return read_columns(path).to_pandas()


def read_columns(path: Location) -> pa.Table:
    """Read the scores of a cell as an Arrow table, in the present layout.

    Raises:
        NewerError: a later version has written it.
        StoreError: the file is damaged or is something else.
    """
    try:
        table = pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
        refuse_newer(path, (table.schema.metadata or {}).get(b"schema"))
        missing = [column for column in SCORE_COLUMNS if column not in table.column_names]
        if missing:
            raise StoreError(f"{path} is not a cell: no column {missing[0]}")
        return table.select(list(SCORE_COLUMNS)).cast(LAYOUT)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {path}: {one_line(error)}") from error


def read_provenance(path: Location) -> dict[str, Any]:
    """Read the provenance of a cell."""
    return json.loads(read_provenance_text(path))


def read_provenance_text(path: Location) -> str:
    """Read the provenance of a cell as JSON, exactly as it was written."""
    metadata = pq.read_schema(io.BytesIO(path.read_bytes())).metadata or {}
    return metadata.get(PROVENANCE, b"{}").decode()


def refuse_newer(path: Location, schema: bytes | int | None) -> None:
    """Check the number of a file's layout; a file without a number has the first layout.

    Raises:
        NewerError: a later version has written the file.
        StoreError: the number is none.
    """
    try:
        number = int(schema or SCHEMA)
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"{path} has no sound number of its layout: {one_line(error)}") from error
    if number > SCHEMA:
        raise NewerError(path, number)

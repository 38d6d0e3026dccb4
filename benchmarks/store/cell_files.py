"""Cells as they lie in Parquet files: one in a file of its own, or many in one.

A cell is the per-image scores of one (model, explainer, metric, shard, seed), with what is needed to trust them. Its
layout has a number; a newer one is refused, since it is sound and this version cannot know what it says.
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
PROVENANCE = b"interp-bench"
# The packed file and its columns besides those of a cell.
PACKED, KEY, MADE = "cells.parquet", "key", "provenance"
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


class Packed:
    """The cells of a run that lie in one file; see `benchmarks.store.packing`.

    Args:
        table: columns of cells, `KEY` and `MADE`; the rows of a key follow each other.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._places: dict[str, tuple[int, int]] = {}
        for row, key in enumerate(table[KEY].to_pylist()):
            start, length = self._places.get(key, (row, 0))
            self._places[key] = start, length + 1

    @classmethod
    def of(cls, folder: Location) -> Packed:
        """What is packed in a run's folder; nothing where there is no such file.

        Raises:
            StoreError: the file is damaged or holds something else.
        """
        path = folder / PACKED
        if not path.exists():
            return cls(pa.table({KEY: pa.array([], pa.string())}))
        layout = pa.schema([*LAYOUT, (KEY, pa.string()), (MADE, pa.string())])
        try:
            table = pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
            return cls(table.select(layout.names).cast(layout))
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            raise StoreError(f"cannot read {path}: {one_line(error)}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def rows(self, key: str) -> pa.Table:
        """All columns of a cell."""
        return self._table.slice(*self._places[key])

    def cell(self, key: str) -> pa.Table:
        """Scores of a cell, in the present layout."""
        return self.rows(key).select(list(SCORE_COLUMNS))


def write_columns(path: Location, content: pa.Table, provenance: str) -> None:
    """Write a cell's scores, with what it says of its making as JSON."""
    known = {b"schema": str(SCHEMA).encode(), PROVENANCE: provenance.encode()}
    with writing(path) as local:
        pq.write_table(content.replace_schema_metadata(known), local)


def read_cell(path: Location) -> pd.DataFrame:
    """Scores of a cell.

    Raises:
        NewerError: a later version has written it.
        StoreError: the file is damaged or holds something else.
    """
    return read_columns(path).to_pandas()


def read_columns(path: Location) -> pa.Table:
    """A cell as it lies in the file, in the present layout.

    Raises:
        NewerError: a later version has written it.
        StoreError: the file is damaged or holds something else.
    """
    try:
        table = pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
        refuse_newer(path, (table.schema.metadata or {}).get(b"schema"))
        missing = [column for column in SCORE_COLUMNS if column not in table.column_names]
        if missing:
            raise StoreError(f"{path} is not a cell: no column {missing[0]}")
        return table.select(list(SCORE_COLUMNS)).cast(LAYOUT)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(f"cannot read {path}: {one_line(error)}") from error


def read_provenance(path: Location) -> dict[str, Any]:
    """What a cell says of its making."""
    metadata = pq.read_schema(io.BytesIO(path.read_bytes())).metadata or {}
    return json.loads(metadata.get(PROVENANCE, b"{}"))


def refuse_newer(path: Location, schema: bytes | int | None) -> None:
    """Files without a number are of the first layout."""
    number = int(schema or SCHEMA)
    if number > SCHEMA:
        raise NewerError(path, number)

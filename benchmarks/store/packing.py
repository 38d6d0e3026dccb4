"""All cells of a finished run in one Parquet file, and back: for copying, publishing and version control.

`cells.parquet` has the columns of a cell, its key, and what the cell says of its making (JSON). A report, a comparison,
an export and a further `run` read it where a cell has no file of its own; to merge, unpack first. Nothing is lost:
unpacking writes the cells that were packed.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.store.cell_files import KEY, MADE, PACKED, PROVENANCE, Packed, read_columns, write_columns
from benchmarks.store.locations import Location, list_files, writing
from benchmarks.store.run_folder import read_record
from interp_core.errors import StoreError


def pack(folder: Location) -> int:
    """Put every cell of a run into one file and delete the cells' own; how many there are now.

    Args:
        folder: of the run.

    Raises:
        StoreError: there is no run, it is not finished, or a cell cannot be read. Nothing is changed then.
    """
    if not read_record(folder).finished:
        raise StoreError(f"{folder} is not finished: run it again to compute the rest, then pack it")
    paths = list_files(folder / "cells", "*.parquet")
    own = {path.stem: _with_key(path) for path in paths}
    before = Packed.of(folder)
    tables = {key: before.rows(key) for key in before if key not in own} | own
    if not tables:
        raise StoreError(f"{folder} has no cells to pack")
    joined = pa.concat_tables([tables[key] for key in sorted(tables)])
    with writing(folder / PACKED) as local:
        pq.write_table(joined, local, compression="zstd")
    for path in paths:
        path.unlink()
    return len(tables)


def unpack(folder: Location) -> int:
    """Give every cell a file of its own again and delete the packed one; how many were written.

    Args:
        folder: of the run.

    Raises:
        StoreError: nothing is packed there, or it cannot be read.
    """
    read_record(folder)
    packed = Packed.of(folder)
    if not packed:
        raise StoreError(f"{folder} has no {PACKED}: nothing is packed")
    for key in packed:
        path = folder / "cells" / f"{key}.parquet"
        if not path.exists():  # computed since, from the same key
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = packed.rows(key)
            write_columns(path, rows.drop_columns([KEY, MADE]), rows[MADE][0].as_py())
    (folder / PACKED).unlink()
    return len(packed)


def _with_key(path: Location) -> pa.Table:
    table = read_columns(path)
    metadata = pq.read_schema(io.BytesIO(path.read_bytes())).metadata or {}
    made = metadata.get(PROVENANCE, b"{}").decode()
    for name, value in ((KEY, path.stem), (MADE, made)):
        table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table.replace_schema_metadata(None)

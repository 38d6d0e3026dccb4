"""Pack the cells of a finished run into one Parquet file, and unpack them: for copying, publishing, version control.

`cells.parquet` has the columns of a cell, its key, and its provenance (JSON). A report, a comparison, an export and a
further `run` read it if a cell has no file of its own; to merge runs, unpack them first. Nothing is lost: unpacking
writes the cells that were packed.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.store.cell_files import (
    KEY_COLUMN,
    PACKED,
    PROVENANCE_COLUMN,
    PackedCells,
    read_columns,
    read_provenance_text,
    write_columns,
)
from benchmarks.store.locations import Location, list_files, writing
from benchmarks.store.run_folder import read_record
from interp_core.errors import StoreError


def pack(folder: Location) -> int:
    """Move every cell of a run into one file, and return the number of cells in it.

    Args:
        folder: of the run.

    Raises:
        StoreError: there is no run, it is not finished, or a cell cannot be read. Nothing is changed then.
    """
    if not read_record(folder).finished:
        raise StoreError(f"{folder} is not finished: run it again to compute the rest, then pack it")
    paths = list_files(folder / "cells", "*.parquet")
    tables_with_key = {path.stem: _read_with_key(path) for path in paths}
    packed_cells = PackedCells.read(folder)
    tables = {key: packed_cells.rows(key) for key in packed_cells if key not in tables_with_key} | tables_with_key
    if not tables:
        raise StoreError(f"{folder} has no cells to pack")
    with writing(folder / PACKED) as local:
        pq.write_table(pa.concat_tables([tables[key] for key in sorted(tables)]), local, compression="zstd")
    for path in paths:
        path.unlink()
    return len(tables)


def unpack(folder: Location) -> int:
    """Write every packed cell into a file of its own, and return their number.

    Args:
        folder: of the run.

    Raises:
        StoreError: there is no run, it has no packed cells, or they cannot be read.
    """
    read_record(folder)
    packed_cells = PackedCells.read(folder)
    if not packed_cells:
        raise StoreError(f"{folder} has no {PACKED}: nothing is packed")
    for key in packed_cells:
        path = folder / "cells" / f"{key}.parquet"
        if not path.exists():  # else it was computed since, under the same key
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = packed_cells.rows(key)
            scores = rows.drop_columns([KEY_COLUMN, PROVENANCE_COLUMN])
            write_columns(path, scores, rows[PROVENANCE_COLUMN][0].as_py())
    (folder / PACKED).unlink()
    return len(packed_cells)


def _read_with_key(path: Location) -> pa.Table:
    table = read_columns(path)
    for name, value in ((KEY_COLUMN, path.stem), (PROVENANCE_COLUMN, read_provenance_text(path))):
        table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table.replace_schema_metadata(None)

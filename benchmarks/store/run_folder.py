"""Read and write a run's folder. Cells are written once, whole, under a key that hashes what made them.

    results/<run>/run.json             the record: what was run, on what, when, and what went wrong
                  cells/*.parquet      per-image scores of one (model, explainer, metric, shard, seed), provenance
                  maps/*.npz           explanations, shared by all metrics
                  models/*             trained networks: safetensors and JSON; checkpoints during training
                  failures/*.json      cells that failed, with their traceback; tried again only on request
                  gallery.npz          a few images with all maps, for the report
                  cells.parquet        cells in one file, where `benchmarks.store.packing` has put them there

A cell that cannot be read is renamed and computed again. One with a newer layout is refused: it is sound, but this
version cannot know what it means.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ValidationError

from benchmarks.store.cell_files import (
    LAYOUT,
    PACKED,
    NewerError,
    PackedCells,
    read_cell,
    read_columns,
    refuse_newer,
    write_columns,
)
from benchmarks.store.json_text import json_text
from benchmarks.store.locations import Location, is_url, list_files, open_location, rename, write_file, writing
from benchmarks.store.record import Problem, RunRecord
from benchmarks.store.run_data import SCORE_COLUMNS, Gallery, RunData
from interp_core.errors import StoreError, one_line

T = TypeVar("T", bound=BaseModel)
SUBFOLDERS = ("cells", "maps", "models", "failures")
# Patterns of all files that a store writes.
OWN_FILES = (
    "cells/*.parquet*", "maps/*.npz*", "models/*.safetensors", "models/*.json", "models/*.stage*.pt*",
    "failures/*.json*", "gallery.npz*", "run.json", PACKED,
)  # fmt: skip


class Store:
    """The folder of one run.

    Args:
        folder: path or URL; made if it is not there.

    Attributes:
        folder: as a path.
        set_aside: messages about files that could not be read and were renamed.

    Raises:
        StoreError: the folder cannot be made or written.
    """

    def __init__(self, folder: Location | str) -> None:
        self.folder = open_location(folder)
        self.set_aside: list[str] = []
        self._packed: PackedCells | None = None
        try:
            for name in SUBFOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe-{uuid4().hex}"  # several workers may do this at a time
            probe.write_bytes(b"")
            probe.unlink()
        except Exception as error:
            if not (isinstance(error, OSError) or is_url(self.folder)):  # each backend has errors of its own
                raise
            reason = getattr(error, "strerror", None) or one_line(error)
            raise StoreError(f"cannot write to {folder}: {reason}; choose another folder with --output") from error

    def clear(self) -> None:
        """Delete what a store has written; other files in the folder stay."""
        for pattern in OWN_FILES:
            for path in list_files(self.folder, pattern):
                path.unlink()
        self._packed = None

    def write_record(self, record: RunRecord) -> None:
        """Write run.json."""
        write_file(self.folder / "run.json", record.to_json())

    def cell_path(self, key: str) -> Location:
        """Return the file of a cell's scores."""
        return self.folder / "cells" / f"{key}.parquet"

    def write_cell(self, key: str, table: pd.DataFrame, provenance: dict[str, Any]) -> None:
        """Write the scores of a cell.

        Args:
            key: of the cell.
            table: scores, with the columns `SCORE_COLUMNS`.
            provenance: what is needed to trust them, as plain data.
        """
        content = pa.Table.from_pandas(table[list(SCORE_COLUMNS)], schema=LAYOUT, preserve_index=False)
        write_columns(self.cell_path(key), content, json.dumps(provenance, default=str))

    def read_cell(self, key: str) -> pd.DataFrame | None:
        """Read the scores of a cell; None if it is not there or cannot be read.

        Raises:
            NewerError: a later version has written it.
        """
        scores = self._read(self.cell_path(key), read_cell)
        if scores is None:
            self._packed = PackedCells.read(self.folder) if self._packed is None else self._packed
            if key in self._packed:
                return self._packed.scores(key).to_pandas()
        return scores

    def has_cell(self, key: str) -> bool:
        """Return whether a cell is there and can be read."""
        return self.read_cell(key) is not None

    def maps_path(self, key: str) -> Location:
        """Return the file of a cell's maps."""
        return self.folder / "maps" / f"{key}.npz"

    def write_maps(self, key: str, maps: np.ndarray, *, half: bool = False) -> None:
        """Write maps (N, 1, H, W) float32; with `half` as float16, see `to_float16`."""
        arrays = to_float16(maps) if half else {"maps": maps}
        self._write_arrays(self.maps_path(key), arrays)

    def read_maps(self, key: str) -> np.ndarray | None:
        """Read the maps of a cell (N, 1, H, W) float32; None if they are not there or cannot be read."""
        return self._read(self.maps_path(key), lambda path: from_float16(_load_npz(path)))

    def failure_path(self, key: str) -> Location:
        """Return the file that says how a cell failed."""
        return self.folder / "failures" / f"{key}.json"

    def write_failure(self, key: str, problem: Problem) -> None:
        """Write how a cell failed."""
        write_file(self.failure_path(key), json_text(problem.to_dict()))

    def read_failure(self, key: str) -> Problem | None:
        """Read how a cell failed; None if it did not, or the file cannot be read."""
        return self._read(self.failure_path(key), _read_problem)

    def forget_failure(self, key: str) -> None:
        """Delete the failure of a cell that has been computed after all."""
        self.failure_path(key).unlink(missing_ok=True)

    def write_gallery(self, gallery: Gallery) -> None:
        """Write the gallery."""
        self._write_arrays(self.folder / "gallery.npz", gallery.to_arrays())

    def _write_arrays(self, path: Location, arrays: dict[str, np.ndarray]) -> None:
        with writing(path) as local, local.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def _read(self, path: Location, read: Callable[[Location], Any]) -> Any:
        """Read a file; if it is damaged, rename it and return None."""
        if not path.exists():
            return None
        try:
            return read(path)
        except NewerError:
            raise
        except StoreError:
            spare = rename(path, path.name + ".corrupt")
            self.set_aside.append(f"{path.parent.name}/{path.name} could not be read; kept as {spare.name}")
            return None


def to_float16(maps: np.ndarray) -> dict[str, np.ndarray]:
    """Convert maps (N, 1, H, W) to float16, each divided by its largest finite magnitude, so that none overflows.

    Returns:
        "maps" (N, 1, H, W) float16 and "scale" (N,) float32, the divisors.
    """
    finite = np.where(np.isfinite(maps), np.abs(maps), 0)
    largest = finite.max(axis=(1, 2, 3))
    scale = np.where(largest > 0, largest, 1).astype(np.float32)
    return {"maps": (maps / scale[:, None, None, None]).astype(np.float16), "scale": scale}


def from_float16(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Convert stored maps to float32 (N, 1, H, W).

    Args:
        arrays: "maps", and "scale" if they are stored as float16; see `to_float16`.

    Raises:
        StoreError: there is no array "maps" of this shape, or "scale" does not fit it.
    """
    maps, scale = arrays.get("maps"), arrays.get("scale")
    if maps is None or maps.ndim != 4 or maps.shape[1] != 1 or maps.dtype.kind != "f":
        raise StoreError("no maps (N, 1, H, W) in the file")
    if scale is None:
        return maps.astype(np.float32)
    if scale.shape != maps.shape[:1] or scale.dtype.kind != "f":
        raise StoreError("the scales in the file are not one for each map")
    return maps.astype(np.float32) * scale[:, None, None, None]


def read_record(folder: Location) -> RunRecord:
    """Read the record of a run.

    Raises:
        NewerError: a later version has written it.
        StoreError: there is no run, or its record is damaged.
    """
    path = folder / "run.json"
    if not path.exists():
        raise StoreError(f"{folder} holds no run: there is no run.json; give the folder that a run has written")
    content = _read_json(path)
    if not isinstance(content, dict):
        raise StoreError(f"{path} is not the description of a run; run again to write it anew")
    refuse_newer(path, content.get("schema"))
    return _validate(RunRecord, content, path)


def read_run(folder: Location | str, only: Collection[str] | None = None) -> RunData:
    """Read everything a report needs. Damaged cells are left out and listed as problems.

    Args:
        folder: of the run.
        only: names of the scores to read; None for all.

    Raises:
        StoreError: there is no run, its record is damaged, or a later version has written it.
    """
    folder = open_location(folder)
    record = read_record(folder)
    problems = list(record.problems)
    tables = _read_cells(folder, record.cells, problems, only)
    total, damaged = len(set(record.cells)), len(problems) - len(record.problems)
    if total and not record.finished:
        message = f"not finished: {len(tables)} of {total} cells are there; run it again to compute the rest"
        problems.append(Problem(where="run", what=message))
    elif len(tables) + damaged < total and not any(problem.cells or problem.cell for problem in record.problems):
        message = f"{total - len(tables) - damaged} of {total} cells are missing; run it again to compute them"
        problems.append(Problem(where="run", what=message))
    # Joined as Arrow tables: thousands of small data frames would take several times the memory of one.
    scores = pa.concat_tables(tables or [LAYOUT.empty_table()]).to_pandas()
    gallery = _read_gallery_if_sound(folder / "gallery.npz", problems)
    return RunData(record.model_copy(update={"problems": problems}), scores, gallery)


def _read_cells(
    folder: Location, keys: Collection[str], problems: list[Problem], only: Collection[str] | None
) -> list[pa.Table]:
    """Read some cells, or all if `keys` is empty, and list damaged ones. A cell's own file goes before a packed one.

    Args:
        folder: of the run.
        keys: of the cells.
        problems: get one entry for each damaged cell.
        only: names of the scores to keep; None for all. The others leave memory at once.
    """
    keys = set(keys)
    names = None if only is None else pa.array(sorted(only), pa.string())

    def keep(table: pa.Table) -> pa.Table:
        return table if names is None else table.filter(pc.is_in(table["metric"], names))

    tables: dict[str, pa.Table] = {}
    for path in list_files(folder / "cells", "*.parquet"):
        if keys and path.stem not in keys:
            continue
        try:
            tables[path.stem] = keep(read_columns(path))
        except NewerError:
            raise
        except StoreError as error:
            message = f"{error}; run again to compute it anew"
            problems.append(Problem(where=f"cells/{path.name}", what=message))
    packed_cells = PackedCells.read(folder)
    packed_keys = [key for key in packed_cells if key not in tables and (not keys or key in keys)]
    return [*tables.values(), *(keep(packed_cells.scores(key)) for key in packed_keys)]


def read_gallery(path: Location) -> Gallery | None:
    """Read a gallery; None if there is no such file.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        return Gallery.from_arrays(_load_npz(path)) if path.exists() else None
    except KeyError as error:
        raise StoreError(f"cannot read {path}: no {error}") from error
    except (ValueError, TypeError) as error:
        raise StoreError(f"cannot read {path}: {one_line(error)}") from error


def _read_gallery_if_sound(path: Location, problems: list[Problem]) -> Gallery | None:
    """Read a gallery; a damaged one is listed."""
    try:
        return read_gallery(path)
    except StoreError as error:
        problems.append(Problem(where=path.name, what=str(error)))
        return None


def _read_problem(path: Location) -> Problem:
    return _validate(Problem, _read_json(path), path)


def _validate(model: type[T], content: Any, path: Location) -> T:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(key) for key in first["loc"])
        raise StoreError(f"cannot read {path}: {field}: {first['msg']}; run again to write it anew") from error


def _read_json(path: Location) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path}: {one_line(error)}") from error


def _load_npz(path: Location) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # numpy, zipfile and zlib have errors of their own
        raise StoreError(f"cannot read {path}: {one_line(error)}") from error

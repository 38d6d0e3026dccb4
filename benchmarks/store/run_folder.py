"""A run's folder: cells are written once, whole, and found again by the content of what made them.

    results/<run>/run.json             what was run, on what, when, and what went wrong
                  cells/*.parquet      per-image scores of one (model, explainer, metric, shard, seed), provenance
                  maps/*.npz           explanations, shared by all metrics
                  models/*             trained networks: safetensors and JSON; checkpoints of those under way
                  failures/*.json      cells that failed, with their traceback; not tried again unless asked for
                  gallery.npz          a few images with all maps, for the report
                  cells.parquet        cells in one file, where `benchmarks.store.packing` has put them there

A cell that cannot be read is set aside, not trusted and not deleted; it is then computed again. One of a newer layout
is refused: it is sound, and this version cannot know what it says.
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
    Packed,
    read_cell,
    read_columns,
    refuse_newer,
    write_columns,
)
from benchmarks.store.locations import Location, is_url, list_files, open_location, rename, write_file, writing
from benchmarks.store.record import Problem, RunRecord
from benchmarks.store.run_data import SCORE_COLUMNS, Gallery, RunData
from interp_core.errors import StoreError, one_line

T = TypeVar("T", bound=BaseModel)
PARTS = ("cells", "maps", "models", "failures")
WRITTEN = (
    "cells/*.parquet*", "maps/*.npz*", "models/*.safetensors", "models/*.json", "models/*.stage*.pt*",
    "failures/*.json*", "gallery.npz*", "run.json", PACKED,
)  # fmt: skip


class Store:
    """One run's folder.

    Args:
        folder: path or URL; made if it is not there.

    Raises:
        StoreError: the folder cannot be made or written.
    """

    def __init__(self, folder: Location | str) -> None:
        self.folder = open_location(folder)
        self.set_aside: list[str] = []
        self._packed: Packed | None = None
        try:
            for part in PARTS:
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe-{uuid4().hex}"  # several workers may be at it
            probe.write_bytes(b"")
            probe.unlink()
        except Exception as error:
            if not (isinstance(error, OSError) or is_url(self.folder)):  # each backend has errors of its own
                raise
            reason = getattr(error, "strerror", None) or one_line(error)
            raise StoreError(f"cannot write to {folder}: {reason}; choose another folder with --output") from error

    def clear(self) -> None:
        """Delete what the store has written; other files in the folder stay."""
        for pattern in WRITTEN:
            for path in list_files(self.folder, pattern):
                path.unlink()
        self._packed = None

    def write_record(self, record: RunRecord) -> None:
        """Write run.json."""
        write_file(self.folder / "run.json", record.to_json())

    def cell_path(self, key: str) -> Location:
        """Where the scores of a cell lie."""
        return self.folder / "cells" / f"{key}.parquet"

    def write_cell(self, key: str, table: pd.DataFrame, provenance: dict[str, Any]) -> None:
        """Write the scores of one cell, columns `SCORE_COLUMNS`, with what is needed to trust them."""
        content = pa.Table.from_pandas(table[list(SCORE_COLUMNS)], schema=LAYOUT, preserve_index=False)
        write_columns(self.cell_path(key), content, json.dumps(provenance, default=str))

    def cell(self, key: str) -> pd.DataFrame | None:
        """Scores of a cell; None if it is not there or cannot be read.

        Raises:
            NewerError: a later version has written it.
        """
        found = self._read(self.cell_path(key), read_cell)
        if found is None:
            self._packed = Packed.of(self.folder) if self._packed is None else self._packed
            if key in self._packed:
                return self._packed.cell(key).to_pandas()
        return found

    def has_cell(self, key: str) -> bool:
        """Whether the cell is there and can be read."""
        return self.cell(key) is not None

    def maps_path(self, key: str) -> Location:
        """Where the explanations of a cell lie."""
        return self.folder / "maps" / f"{key}.npz"

    def write_maps(self, key: str, maps: np.ndarray, *, half: bool = False) -> None:
        """Write explanations (N, 1, H, W) float32; `half` as float16, see `to_float16`."""
        arrays = to_float16(maps) if half else {"maps": maps}
        self._write_arrays(self.maps_path(key), arrays)

    def read_maps(self, key: str) -> np.ndarray | None:
        """Explanations of a cell (N, 1, H, W) float32; None if they are not there or cannot be read."""
        return self._read(self.maps_path(key), lambda path: from_float16(_load_npz(path)))

    def failure_path(self, key: str) -> Location:
        """Where it is said how a cell failed."""
        return self.folder / "failures" / f"{key}.json"

    def write_failure(self, key: str, problem: Problem) -> None:
        """Write how a cell failed."""
        write_file(self.failure_path(key), json.dumps(problem.to_dict(), indent=1) + "\n")

    def failure(self, key: str) -> Problem | None:
        """Return how a cell failed; None if it did not, or the file cannot be read."""
        return self._read(self.failure_path(key), _read_problem)

    def forget_failure(self, key: str) -> None:
        """The cell has been computed after all."""
        self.failure_path(key).unlink(missing_ok=True)

    def write_gallery(self, gallery: Gallery) -> None:
        """Write the gallery."""
        self._write_arrays(self.folder / "gallery.npz", gallery.to_arrays())

    def _write_arrays(self, path: Location, arrays: dict[str, np.ndarray]) -> None:
        with writing(path) as local, local.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def _read(self, path: Location, read: Callable[[Location], Any]) -> Any:
        """What `read` makes of a file; None, and the file set aside, if it cannot."""
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
    """Maps (N, 1, H, W) as float16 in units of their largest finite magnitude (N,), so that none overflows."""
    finite = np.where(np.isfinite(maps), np.abs(maps), 0)
    largest = finite.max(axis=(1, 2, 3))
    scale = np.where(largest > 0, largest, 1).astype(np.float32)
    return {"maps": (maps / scale[:, None, None, None]).astype(np.float16), "scale": scale}


def from_float16(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Maps (N, 1, H, W) float32 from what is stored of them."""
    if "maps" not in arrays:
        raise StoreError("no maps in the file")
    maps = arrays["maps"].astype(np.float32)
    return maps * arrays["scale"][:, None, None, None] if "scale" in arrays else maps


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
    """Everything the report needs, from the store alone. Damaged cells are left out and listed as problems.

    Args:
        folder: of the run.
        only: names of the scores that are wanted; None for all.

    Raises:
        StoreError: there is no run, its description is damaged, or a later version has written it.
    """
    folder = open_location(folder)
    record = read_record(folder)
    problems = list(record.problems)
    wanted = set(record.cells)
    tables = _cells(folder, wanted, problems)
    if only is not None:
        named = pa.array(sorted(only), pa.string())
        tables = [table.filter(pc.is_in(table["metric"], named)) for table in tables]
    if wanted and not record.finished:
        what = f"not finished: {len(tables)} of {len(wanted)} cells are there; run it again to compute the rest"
        problems.append(Problem(where="run", what=what))
    # Joined as they are: thousands of small data frames would take several times the memory of one.
    scores = pa.concat_tables(tables or [LAYOUT.empty_table()]).to_pandas()
    gallery = _shown(folder / "gallery.npz", problems)
    return RunData(record.model_copy(update={"problems": problems}), scores, gallery)


def _cells(folder: Location, wanted: Collection[str], problems: list[Problem]) -> list[pa.Table]:
    """The wanted cells, or all where none are named; damaged ones are listed. A cell's own file goes first."""
    tables: dict[str, pa.Table] = {}
    for path in list_files(folder / "cells", "*.parquet"):
        if wanted and path.stem not in wanted:
            continue
        try:
            tables[path.stem] = read_columns(path)
        except NewerError:
            raise
        except StoreError as error:
            what = f"{error}; run again to compute it anew"
            problems.append(Problem(where=f"cells/{path.name}", what=what))
    packed = Packed.of(folder)
    more = [key for key in packed if key not in tables and (not wanted or key in wanted)]
    return [*tables.values(), *(packed.cell(key) for key in more)]


def read_gallery(path: Location) -> Gallery | None:
    """The gallery in a file; None if there is no such file.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return Gallery.from_arrays(_load_npz(path)) if path.exists() else None
    except KeyError as error:
        raise StoreError(f"cannot read {path}: no {error}") from error


def _shown(path: Location, problems: list[Problem]) -> Gallery | None:
    """The gallery; a damaged one is listed."""
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
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def _load_npz(path: Location) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # numpy, zipfile and zlib each have their own for a damaged file
        raise StoreError(f"cannot read {path}: {error}") from error

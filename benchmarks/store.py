"""A run's folder: cells are written once, whole, and found again by the content of what made them.

    results/<run>/run.json             what was run, on what, when, and what went wrong
                  cells/*.parquet      per-image scores of one (model, explainer, metric, shard, seed), provenance
                  maps/*.npz           explanations, shared by all metrics
                  models/*             trained networks: safetensors and JSON
                  gallery.npz          a few images with all maps, for the report

A cell that cannot be read is set aside, not trusted and not deleted; it is then computed again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.files import whole_file, write_whole
from benchmarks.report.data import SCORE_COLUMNS, Gallery, RunData
from interp_core.errors import StoreError

PROVENANCE = b"interp-bench"


class Store:
    """One run's folder.

    Args:
        folder: made if it is not there.

    Raises:
        StoreError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.set_aside: list[str] = []
        try:
            for part in ("cells", "maps", "models"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise StoreError(
                f"cannot write to {folder}: {error.strerror or error}; choose another folder with --output"
            ) from error

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Write run.json."""
        write_whole(self.folder / "run.json", json.dumps(meta, indent=2, default=str) + "\n")

    def cell_path(self, key: str) -> Path:
        """Where the scores of a cell lie."""
        return self.folder / "cells" / f"{key}.parquet"

    def write_cell(self, key: str, table: pd.DataFrame, provenance: dict[str, Any]) -> None:
        """Write the scores of one cell, columns `SCORE_COLUMNS`, with what is needed to trust them."""
        content = pa.Table.from_pandas(table[list(SCORE_COLUMNS)], preserve_index=False)
        content = content.replace_schema_metadata({PROVENANCE: json.dumps(provenance, default=str)})
        with whole_file(self.cell_path(key)) as path:
            pq.write_table(content, path)

    def has_cell(self, key: str) -> bool:
        """Whether the cell is there and can be read."""
        path = self.cell_path(key)
        return path.exists() and self._readable(path, lambda: read_cell(path))

    def maps_path(self, key: str) -> Path:
        """Where the explanations of a cell lie."""
        return self.folder / "maps" / f"{key}.npz"

    def write_maps(self, key: str, maps: np.ndarray) -> None:
        """Write explanations (N, 1, H, W) float32."""
        with whole_file(self.maps_path(key)) as path, path.open("wb") as file:
            np.savez_compressed(file, maps=maps)

    def read_maps(self, key: str) -> np.ndarray | None:
        """Explanations of a cell; None if they are not there or cannot be read."""
        path = self.maps_path(key)
        found: list[np.ndarray] = []
        if path.exists() and self._readable(path, lambda: found.append(_load_npz(path)["maps"])):
            return found[0]
        return None

    def write_gallery(self, gallery: Gallery) -> None:
        """Write the gallery; maps as float16."""
        arrays: dict[str, np.ndarray] = {
            "images": gallery.images,
            "masks": gallery.masks,
            "ids": np.array(gallery.ids),
            "labels": np.array(gallery.labels),
        }
        for (model, explainer), maps in gallery.maps.items():
            arrays[f"map::{model}::{explainer}"] = maps.astype(np.float16)
        with whole_file(self.folder / "gallery.npz") as path, path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def _readable(self, path: Path, read: Callable[[], object]) -> bool:
        try:
            read()
        except StoreError:
            spare = path.with_name(path.name + ".corrupt")
            path.replace(spare)
            self.set_aside.append(f"{path.relative_to(self.folder)} could not be read; kept as {spare.name}")
            return False
        return True


def read_cell(path: Path) -> pd.DataFrame:
    """Scores of a cell.

    Raises:
        StoreError: the file is damaged or holds something else.
    """
    try:
        table = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    missing = [column for column in SCORE_COLUMNS if column not in table]
    if missing:
        raise StoreError(f"{path} is not a cell: no column {missing[0]}")
    return table


def read_provenance(path: Path) -> dict[str, Any]:
    """What a cell says of its making."""
    return json.loads((pq.read_schema(path).metadata or {}).get(PROVENANCE, b"{}"))


def read_run(folder: Path) -> RunData:
    """Everything the report needs, from the store alone. Damaged cells are left out and listed as problems.

    Raises:
        StoreError: there is no run, or its description is damaged.
    """
    path = folder / "run.json"
    try:
        meta = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} holds no run: there is no run.json; give the folder that a run has written"
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    if not isinstance(meta, dict):
        raise StoreError(f"{path} is not the description of a run; run again to write it anew")
    tables, problems = [], list(meta.get("problems") or [])
    wanted = set(meta.get("cells") or [])
    for cell in sorted((folder / "cells").glob("*.parquet")):
        if wanted and cell.stem not in wanted:
            continue
        try:
            tables.append(read_cell(cell))
        except StoreError as error:
            problems.append({"where": f"cells/{cell.name}", "what": f"{error}; run again to compute it anew"})
    if wanted and not meta.get("finished"):
        what = f"not finished: {len(tables)} of {len(wanted)} cells are there; run it again to compute the rest"
        problems.append({"where": "run", "what": what})
    scores = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(SCORE_COLUMNS))
    return RunData({**meta, "problems": problems}, scores, _read_gallery(folder / "gallery.npz", problems))


def _read_gallery(path: Path, problems: list[dict[str, str]]) -> Gallery | None:
    if not path.exists():
        return None
    try:
        content = _load_npz(path)
        maps = {
            (name.split("::")[1], name.split("::")[2]): content[name].astype(np.float32)
            for name in content
            if name.startswith("map::")
        }
        return Gallery(content["images"], content["masks"], content["ids"].tolist(), content["labels"].tolist(), maps)
    except (StoreError, KeyError) as error:
        problems.append({"where": path.name, "what": str(error)})
        return None


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # numpy, zipfile and zlib each have their own for a damaged file
        raise StoreError(f"cannot read {path}: {error}") from error

"""Several runs as one: for seeds, explainers or metrics computed apart, on other machines or on other days.

The runs must agree on all that cells share: data set, networks, recipe, terms, images and shards. What they hold of the
same explainer, metric and seed must come from the same cell; conflicts are named, all of them, and nothing is written.
The merged folder has cells, description and gallery, enough for tables and page; maps and weights stay where they are.

Known limit: each run chose the images that its own networks get right, so that seeds trained apart may have been judged
on other images than seeds trained together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.store.cell_files import PACKED, read_cell
from benchmarks.store.gallery import Gallery
from benchmarks.store.locations import Location, list_files, local_copy, writing
from benchmarks.store.provenance import digest
from benchmarks.store.run_folder import Store, read_gallery, read_meta
from interp_core.errors import StoreError

# Fields in which runs may differ: what cells say of themselves, and how they were computed.
FREE = {
    "name", "explainers", "metrics", "seeds", "gallery", "smoothing", "grids", "sharpening", "metric_engine", "device",
    "threads", "batch_size", "keep_maps", "engine", "ray", "plugins",
}  # fmt: skip
NAMED = ("models", "explainers", "metrics", "ablations")
IDENTITY = ["model", "explainer", "metric", "seed", "image_id"]


def merge(folders: Sequence[Location], into: Location) -> int:
    """Write the cells of several runs, their descriptions and galleries as one run.

    Args:
        folders: runs, in the order of the merged tables.
        into: the new run's folder; must hold no other run.

    Returns:
        Number of cells.

    Raises:
        StoreError: there are fewer than two runs, one cannot be read, they conflict, or `into` holds a run already.
    """
    if len(folders) < 2:
        raise StoreError("merge takes two runs or more")
    if (into / "run.json").exists():
        raise StoreError(f"{into} holds a run already: give a new folder with --into")
    metas = [read_meta(folder) for folder in folders]
    for folder in folders:
        if (folder / PACKED).exists():
            raise StoreError(f"{folder} is packed: interp-bench unpack {folder} first")
    cells = [_cells(folder, meta) for folder, meta in zip(folders, metas, strict=True)]
    conflicts = [*_settings(folders, metas), *_parameters(folders, metas)] or _overlaps(folders, cells)
    if conflicts:
        raise StoreError(f"these runs cannot be merged: {'; '.join(conflicts)}")
    store = Store(into)
    chosen = {path.stem: path for paths in reversed(cells) for path in paths}
    for key, path in chosen.items():
        with local_copy(path) as source, writing(store.cell_path(key)) as target:
            target.write_bytes(source.read_bytes())
    galleries = [found for folder in folders if (found := read_gallery(folder / "gallery.npz")) is not None]
    if galleries:
        store.write_gallery(merged_gallery(galleries))
    store.write_meta(merged_meta(metas, str(into.name), sorted(chosen)))
    return len(chosen)


def _cells(folder: Location, meta: dict[str, Any]) -> list[Location]:
    wanted = set(meta.get("cells") or [])
    return [path for path in list_files(folder / "cells", "*.parquet") if not wanted or path.stem in wanted]


def _settings(folders: Sequence[Location], metas: Sequence[dict[str, Any]]) -> list[str]:
    """Fields that all cells depend on and that differ."""
    first = metas[0].get("config") or {}
    found = []
    for folder, meta in zip(folders[1:], metas[1:], strict=True):
        other = meta.get("config") or {}
        for field in sorted((first.keys() | other.keys()) - FREE):
            if first.get(field) != other.get(field):
                found.append(f"{field} differs between {folders[0]} and {folder}")
    return found


def _parameters(folders: Sequence[Location], metas: Sequence[dict[str, Any]]) -> list[str]:
    """Explainers and metrics of one name with other parameters."""
    seen: dict[tuple[str, str], tuple[Location, str]] = {}
    found = []
    for folder, meta in zip(folders, metas, strict=True):
        for kind, said in (("explainers", "params"), ("metrics", "settings")):
            for entry in meta.get(kind) or []:
                content = digest(entry.get(said))
                before, known = seen.setdefault((kind, entry["name"]), (folder, content))
                if known != content:
                    found.append(f"{kind[:-1]} {entry['name']} has other parameters in {before} and {folder}")
    return found


def _overlaps(folders: Sequence[Location], cells: Sequence[Sequence[Location]]) -> list[str]:
    """Scores that two runs took from different cells."""
    owner: dict[tuple[Any, ...], tuple[str, Location]] = {}
    found: dict[str, None] = {}
    for folder, paths in zip(folders, cells, strict=True):
        for path in paths:
            table = read_cell(path)
            for names in table[IDENTITY].itertuples(index=False, name=None):
                key, before = owner.setdefault(names, (path.stem, folder))
                if key != path.stem:
                    model, explainer, metric, seed, _ = names
                    what = f"{explainer} on {model}, seed {seed}, {metric}"
                    found[f"{before} and {folder} computed {what} with other settings or code"] = None
    return list(found)


def merged_meta(metas: Sequence[dict[str, Any]], name: str, cells: list[str]) -> dict[str, Any]:
    """One description of several runs: lists joined, entries of one name taken once, seconds added."""
    first = metas[0]
    config = {**first["config"], "name": name}
    for field in ("seeds", "explainers", "metrics", "smoothing", "grids", "sharpening", "plugins"):
        config[field] = _once(entry for meta in metas for entry in (meta["config"].get(field) or []))
    times: dict[str, float] = {}
    for meta in metas:
        for what, seconds in (meta.get("times") or {}).items():
            times[what] = round(times.get(what, 0.0) + seconds, 2)
    merged = {
        **first,
        "name": name,
        "config": config,
        "config_hash": digest(config),
        "seeds": config["seeds"],
        "cells": cells,
        "times": times,
        "finished": max(str(meta.get("finished") or "") for meta in metas) or None,
        "merged": [{k: meta.get(k) for k in ("name", "config_hash", "started", "finished", "git")} for meta in metas],
    }
    for field in (*NAMED, "problems", "audit", "degenerate"):
        merged[field] = _once(entry for meta in metas for entry in (meta.get(field) or []))
    merged["dataset"] = {**first["dataset"], "areas": _areas(metas)}
    return merged


def _areas(metas: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: area for meta in metas for name, area in (meta["dataset"].get("areas") or {}).items()}


def _once(entries: Iterable[Any]) -> list[Any]:
    """Entries that differ, each once; of those with a name, one for each name and seed."""
    found: dict[str, Any] = {}
    for entry in entries:
        named = isinstance(entry, dict) and "name" in entry
        found.setdefault(digest([entry["name"], entry.get("seed")]) if named else digest(entry), entry)
    return list(found.values())


def merged_gallery(galleries: Sequence[Gallery]) -> Gallery:
    """The first gallery, with the maps that others have of its images for pairs it has none of."""
    first = galleries[0]
    place = {name: i for i, name in enumerate(first.ids)}
    maps, rows = dict(first.maps), {pair: first.places(*pair) for pair in first.maps}
    for other in galleries[1:]:
        for pair in other.maps:
            shared = [i for i in other.places(*pair) if other.ids[i] in place]
            if pair not in maps and shared:
                own = other.places(*pair)
                maps[pair] = other.maps[pair][[own.index(i) for i in shared]]
                rows[pair] = [place[other.ids[i]] for i in shared]
    return replace(first, maps=maps, rows={pair: np.array(found) for pair, found in rows.items()})

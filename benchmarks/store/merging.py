"""Merge runs whose seeds, explainers or metrics were computed apart, on other machines or other days.

The runs must agree on all that cells share: data set, networks, recipe, terms, images and shards. Scores of one
explainer, metric and seed must come from the same cell. All conflicts are has_name, and nothing is written then. The
merged folder has cells, record and gallery, which is enough for tables and page; maps and weights are not copied.

Known limit: each run selected the images that its own networks classify correctly, so that seeds trained apart may have
been judged on other images than seeds trained together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from benchmarks.store.cell_files import PACKED, read_cell
from benchmarks.store.gallery import Gallery
from benchmarks.store.locations import Location, list_files, local_copy, writing
from benchmarks.store.provenance import digest
from benchmarks.store.record import Entry, MergedRecord, RunRecord
from benchmarks.store.run_folder import Store, read_gallery, read_record
from interp_core.errors import StoreError

T = TypeVar("T")
# Settings in which runs may differ: they are part of a cell's key, or only say how cells are computed.
FREE_SETTINGS = {
    "name", "explainers", "metrics", "pairs", "seeds", "gallery", "smoothing", "grids", "sharpening", "metric_engine",
    "device", "threads", "batch_size", "keep_maps", "engine", "ray", "plugins",
}  # fmt: skip
JOINED_SETTINGS = ("seeds", "explainers", "metrics", "pairs", "smoothing", "grids", "sharpening", "plugins")
JOINED_FIELDS = ("models", "explainers", "metrics", "pairs", "ablations", "problems", "audit", "degenerate")
SCORE_IDENTITY = ["model", "explainer", "metric", "seed", "image_id"]


def merge(folders: Sequence[Location], into: Location) -> int:
    """Write the cells, records and galleries of several runs as one run.

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
    records = [read_record(folder) for folder in folders]
    for folder in folders:
        if (folder / PACKED).exists():
            raise StoreError(f"{folder} is packed: interp-bench unpack {folder} first")
    cells = [_list_cells(folder, record) for folder, record in zip(folders, records, strict=True)]
    conflicts = [*_compare_settings(folders, records), *_compare_parameters(folders, records)]
    conflicts = conflicts or _compare_cells(folders, cells)
    if conflicts:
        raise StoreError(f"these runs cannot be merged: {'; '.join(conflicts)}")
    store = Store(into)
    sources = {path.stem: path for paths in reversed(cells) for path in paths}
    for key, path in sources.items():
        with local_copy(path) as source, writing(store.cell_path(key)) as target:
            target.write_bytes(source.read_bytes())
    galleries = [read_gallery(folder / "gallery.npz") for folder in folders]
    present = [gallery for gallery in galleries if gallery is not None]
    if present:
        store.write_gallery(merge_galleries(present))
    store.write_record(merge_records(records, str(into.name), sorted(sources)))
    return len(sources)


def _list_cells(folder: Location, record: RunRecord) -> list[Location]:
    paths = list_files(folder / "cells", "*.parquet")
    return [path for path in paths if not record.cells or path.stem in record.cells]


def _compare_settings(folders: Sequence[Location], records: Sequence[RunRecord]) -> list[str]:
    """Describe settings that all cells depend on and that differ."""
    first = records[0].config
    conflicts = []
    for folder, record in zip(folders[1:], records[1:], strict=True):
        for field in sorted((first.keys() | record.config.keys()) - FREE_SETTINGS):
            if first.get(field) != record.config.get(field):
                conflicts.append(f"{field} differs between {folders[0]} and {folder}")
    return conflicts


def _compare_parameters(folders: Sequence[Location], records: Sequence[RunRecord]) -> list[str]:
    """Describe explainers and metrics that have one name and other parameters."""
    first: dict[tuple[str, str], tuple[Location, str]] = {}
    conflicts = []
    for folder, record in zip(folders, records, strict=True):
        explainers = [("explainer", entry.name, digest(entry.params)) for entry in record.explainers]
        metrics = [("metric", entry.name, digest(entry.settings)) for entry in record.metrics]
        for kind, name, parameters in [*explainers, *metrics]:
            other_folder, other_parameters = first.setdefault((kind, name), (folder, parameters))
            if other_parameters != parameters:
                conflicts.append(f"{kind} {name} has other parameters in {other_folder} and {folder}")
    return conflicts


def _compare_cells(folders: Sequence[Location], cells: Sequence[Sequence[Location]]) -> list[str]:
    """Describe scores that two runs took from different cells."""
    owners: dict[tuple[Any, ...], tuple[str, Location]] = {}
    conflicts: dict[str, None] = {}
    for folder, paths in zip(folders, cells, strict=True):
        for path in paths:
            table = read_cell(path)
            for identity in table[SCORE_IDENTITY].itertuples(index=False, name=None):
                key, owner = owners.setdefault(identity, (path.stem, folder))
                if key != path.stem:
                    model, explainer, metric, seed, _ = identity
                    scores = f"{explainer} on {model}, seed {seed}, {metric}"
                    conflicts[f"{owner} and {folder} computed {scores} with other settings or code"] = None
    return list(conflicts)


def merge_records(records: Sequence[RunRecord], name: str, cells: list[str]) -> RunRecord:
    """Merge records: lists are joined_fields, entries of one name and seed taken once, seconds added.

    Args:
        records: of the runs.
        name: of the merged run.
        cells: keys of its cells.
    """
    first = records[0]
    config = {**first.config, "name": name}
    for field in JOINED_SETTINGS:
        config[field] = _distinct(value for record in records for value in (record.config.get(field) or []))
    times: dict[str, int | float] = {}
    for record in records:
        for activity, seconds in record.times.items():
            times[activity] = round(times.get(activity, 0.0) + seconds, 2)
    joined_fields = {
        field: _distinct(entry for record in records for entry in getattr(record, field)) for field in JOINED_FIELDS
    }
    areas = {image: area for record in records for image, area in record.dataset.areas.items()}
    changes = {
        "name": name,
        "config": config,
        "config_hash": digest(config),
        "seeds": config["seeds"],
        "cells": cells,
        "times": times,
        "finished": max(record.finished or "" for record in records) or None,
        "merged": [_describe_source(record) for record in records],
        "dataset": first.dataset.model_copy(update={"areas": areas}),
    }
    return first.model_copy(update=changes | joined_fields)


def _describe_source(record: RunRecord) -> MergedRecord:
    return MergedRecord(
        name=record.name,
        config_hash=record.config_hash,
        started=record.started,
        finished=record.finished,
        git=record.git,
    )


def _distinct(entries: Iterable[T]) -> list[T]:
    """Return entries that differ, each once; of those with a name, one for each name and seed."""
    distinct: dict[str, T] = {}
    for entry in entries:
        content: Any = entry.to_dict() if isinstance(entry, Entry) else entry
        has_name = isinstance(content, dict) and "name" in content
        distinct.setdefault(digest([content["name"], content.get("seed")]) if has_name else digest(content), entry)
    return list(distinct.values())


def merge_galleries(galleries: Sequence[Gallery]) -> Gallery:
    """Add to the first gallery the maps that others have of its images, for pairs it has no maps of."""
    first = galleries[0]
    index = {image_id: i for i, image_id in enumerate(first.ids)}
    maps, rows = dict(first.maps), {pair: first.positions(*pair) for pair in first.maps}
    for other in galleries[1:]:
        for pair in other.maps:
            positions = other.positions(*pair)
            shared = [i for i in positions if other.ids[i] in index]
            if pair not in maps and shared:
                maps[pair] = other.maps[pair][[positions.index(i) for i in shared]]
                rows[pair] = [index[other.ids[i]] for i in shared]
    return replace(first, maps=maps, rows={pair: np.array(positions) for pair, positions in rows.items()})

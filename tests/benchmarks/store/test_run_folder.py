from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.store.cell_files import SCHEMA, NewerError, read_cell, read_provenance
from benchmarks.store.locations import Location
from benchmarks.store.record import Problem, RunRecord
from benchmarks.store.run_data import Gallery
from benchmarks.store.run_folder import Store, from_float16, read_run, to_float16
from interp_core.errors import StoreError


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "run" if request.param == "disk" else f"memory://{tmp_path.name}/run")
    yield made
    if request.param == "memory":
        made.clear()


def scores(value: float = 0.5) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": "lap",
            "explainer": "random",
            "metric": "auc",
            "seed": 0,
            "image_id": ["a", "b"],
            "value": [value, np.nan],
            "degenerate": [False, True],
        }
    )


def filled(store: Store, *keys: str, **fields: Any) -> Location:
    for key in keys:
        store.write_cell(key, scores(), {})
    store.write_record(RunRecord(**{"cells": list(keys), "finished": "now"} | fields))
    return store.folder


def test_a_cell_comes_back_as_it_was_with_its_provenance(store: Store) -> None:
    store.write_cell("key", scores(), {"seed": 3, "git": {"commit": "abc"}})
    pd.testing.assert_frame_equal(read_cell(store.cell_path("key")), scores())
    assert read_provenance(store.cell_path("key")) == {"seed": 3, "git": {"commit": "abc"}}
    assert store.has_cell("key")
    assert not store.has_cell("other")


def test_maps_come_back_bit_for_bit(store: Store) -> None:
    maps = np.random.default_rng(0).random((2, 1, 4, 4), dtype=np.float32)
    maps[0, 0, 0, 0] = np.nan
    store.write_maps("key", maps)
    found = store.read_maps("key")
    assert found is not None
    assert found.tobytes() == maps.tobytes()
    assert store.read_maps("other") is None


@pytest.mark.parametrize("damage", [b"", b"PAR1 and then nothing", b"\x00" * 500], ids=["empty", "cut", "zeros"])
def test_a_damaged_cell_is_set_aside_and_said(store: Store, damage: bytes) -> None:
    path = store.cell_path("key")
    path.write_bytes(damage)
    assert not store.has_cell("key")
    assert path.with_name("key.parquet.corrupt").read_bytes() == damage
    assert store.set_aside == ["cells/key.parquet could not be read; kept as key.parquet.corrupt"]


def test_a_table_that_is_no_cell(store: Store) -> None:
    content = io.BytesIO()
    scores().drop(columns="value").to_parquet(content)
    store.cell_path("key").write_bytes(content.getvalue())
    with pytest.raises(StoreError, match="no column value"):
        read_cell(store.cell_path("key"))


def with_schema(path: Location, schema: str | None) -> None:
    """Write a cell again under another schema number."""
    table = pq.read_table(io.BytesIO(path.read_bytes()))
    content = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({} if schema is None else {b"schema": schema.encode()}), content)
    path.write_bytes(content.getvalue())


def test_cells_say_their_layout_and_those_of_before_are_read(store: Store) -> None:
    store.write_cell("key", scores(), {})
    path = store.cell_path("key")
    assert pq.read_schema(io.BytesIO(path.read_bytes())).metadata[b"schema"] == str(SCHEMA).encode()
    with_schema(path, None)
    pd.testing.assert_frame_equal(read_cell(path), scores())


def test_a_newer_cell_is_refused_and_neither_set_aside_nor_computed_again(store: Store) -> None:
    folder = filled(store, "key")
    with_schema(store.cell_path("key"), str(SCHEMA + 1))
    for read in (lambda: store.has_cell("key"), lambda: read_run(folder)):
        with pytest.raises(NewerError, match=rf"key\.parquet has layout {SCHEMA + 1}.*update interp-bench"):
            read()
    assert store.cell_path("key").exists()
    assert store.set_aside == []


def test_a_newer_run_is_refused(store: Store) -> None:
    folder = filled(store, schema=SCHEMA + 1)
    with pytest.raises(NewerError, match=r"run\.json has layout"):
        read_run(folder)


def test_rounded_maps_are_near_and_rounding_twice_is_rounding_once(store: Store) -> None:
    maps = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    maps[1] *= 1e30
    maps[2, 0, 0, :2] = np.nan, np.inf
    store.write_maps("key", maps, half=True)
    found = store.read_maps("key")
    assert found is not None
    assert found.dtype == np.float32
    assert (found == from_float16(to_float16(maps))).all(where=np.isfinite(maps))
    largest = np.abs(maps[:2]).max(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(found[:2] - maps[:2]) <= largest * 2**-11).all()
    assert (np.isnan(found) == np.isnan(maps)).all()
    assert (np.isinf(found) == np.isinf(maps)).all()
    twice = from_float16(to_float16(found))
    assert np.array_equal(twice, found, equal_nan=True)
    assert (to_float16(np.zeros((1, 1, 2, 2), np.float32))["scale"] == 1).all()


def test_failures_come_back_until_they_are_forgotten(store: Store) -> None:
    entry = Problem(where="lap, random", what="no luck", traceback="...", cell="key")
    assert store.read_failure("key") is None
    store.forget_failure("key")
    store.write_failure("key", entry)
    assert store.read_failure("key") == entry
    store.forget_failure("key")
    assert store.read_failure("key") is None


def test_clearing_takes_what_the_store_wrote_and_nothing_else(store: Store) -> None:
    folder = filled(store, "one")
    store.write_failure("two", Problem())
    (folder / "mine.txt").write_text("kept")
    store.clear()
    assert (folder / "mine.txt").read_text() == "kept"
    assert not store.has_cell("one")
    assert store.read_failure("two") is None
    assert not (folder / "run.json").exists()


def test_a_place_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot use abacus://"):
        Store("abacus://beads")


def test_damaged_maps_are_set_aside(store: Store) -> None:
    store.write_maps("key", np.zeros((1, 1, 2, 2), np.float32))
    path = store.maps_path("key")
    path.write_bytes(path.read_bytes()[:-30])
    assert store.read_maps("key") is None
    assert len(store.set_aside) == 1


def test_pickles_are_never_loaded(store: Store) -> None:
    content = io.BytesIO()
    np.savez(content, maps=np.array([{"a": 1}], dtype=object))
    store.maps_path("key").write_bytes(content.getvalue())
    assert store.read_maps("key") is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot write to .*taken.*--output"):
        Store(tmp_path / "taken")


def test_a_run_is_read_from_its_own_cells_alone(store: Store) -> None:
    folder = filled(store, "one", "two")
    store.write_cell("from-an-older-configuration", scores(), {})
    assert len(read_run(folder).scores) == 4


def test_single_scores_can_be_read(store: Store) -> None:
    folder = filled(store, "one")
    store.write_cell("two", scores().assign(metric="pointing_game"), {})
    store.write_record(RunRecord(cells=["one", "two"], finished="now"))
    assert len(read_run(folder).scores) == 4
    found = read_run(folder, only={"pointing_game", "another"}).scores
    assert found["metric"].tolist() == ["pointing_game"] * 2
    assert read_run(folder, only=set()).scores.empty


def test_damaged_cells_are_left_out_of_a_report_and_listed(store: Store) -> None:
    folder = filled(store, "one", "two")
    store.cell_path("two").write_bytes(b"rubbish")
    data = read_run(folder)
    assert len(data.scores) == 2
    assert [problem.where for problem in data.record.problems] == ["cells/two.parquet"]


def test_an_unfinished_run_says_so(store: Store) -> None:
    folder = filled(store, "one", finished=None, cells=["one", "two"])
    (problem,) = read_run(folder).record.problems
    assert "1 of 2 cells" in problem.what


def test_a_run_without_cells_can_be_read(store: Store) -> None:
    assert read_run(filled(store)).scores.empty


@pytest.mark.parametrize("content", [None, "{", "[1]", "\x00"])
def test_folders_that_hold_no_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(StoreError, match=r"run\.json"):
        read_run(tmp_path)


def gallery() -> Gallery:
    rng = np.random.default_rng(0)
    maps = {("lap", "random"): rng.random((2, 4, 4)).astype(np.float16).astype(np.float32)}
    images = rng.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    return Gallery(images, rng.random((2, 4, 4)) > 0.5, ["a", "b"], ["cat", "dog"], maps)


def test_the_gallery_comes_back(store: Store) -> None:
    folder, expected = filled(store), gallery()
    store.write_gallery(expected)
    found = read_run(folder).gallery
    assert found is not None
    assert (found.images == expected.images).all()
    assert (found.masks == expected.masks).all()
    assert (found.ids, found.labels) == (expected.ids, expected.labels)
    assert (found.maps["lap", "random"] == expected.maps["lap", "random"]).all()


def test_a_damaged_gallery_is_left_out_and_listed(store: Store) -> None:
    folder = filled(store)
    (folder / "gallery.npz").write_bytes(b"PK")
    data = read_run(folder)
    assert data.gallery is None
    assert data.record.problems[0].where == "gallery.npz"


def test_run_json_is_readable_text(store: Store) -> None:
    store.write_record(RunRecord.model_validate({"name": "x", "folder": store.folder}))
    assert json.loads((store.folder / "run.json").read_text())["folder"] == str(store.folder)

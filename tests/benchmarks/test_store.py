from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.report.data import Gallery
from benchmarks.store import Store, read_cell, read_provenance, read_run
from interp_core.errors import StoreError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "run")


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


def filled(store: Store, *keys: str, **meta: object) -> Path:
    for key in keys:
        store.write_cell(key, scores(), {})
    store.write_meta({"cells": list(keys), "finished": "now", **meta})
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
    scores().drop(columns="value").to_parquet(store.cell_path("key"))
    with pytest.raises(StoreError, match="no column value"):
        read_cell(store.cell_path("key"))


def test_damaged_maps_are_set_aside(store: Store) -> None:
    store.write_maps("key", np.zeros((1, 1, 2, 2), np.float32))
    path = store.maps_path("key")
    path.write_bytes(path.read_bytes()[:-30])
    assert store.read_maps("key") is None
    assert len(store.set_aside) == 1


def test_pickles_are_never_loaded(store: Store) -> None:
    np.savez(store.maps_path("key"), maps=np.array([{"a": 1}], dtype=object))
    assert store.read_maps("key") is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot write to .*taken.*--output"):
        Store(tmp_path / "taken")


def test_a_run_is_read_from_its_own_cells_alone(store: Store) -> None:
    folder = filled(store, "one", "two")
    store.write_cell("from-an-older-configuration", scores(), {})
    assert len(read_run(folder).scores) == 4


def test_damaged_cells_are_left_out_of_a_report_and_listed(store: Store) -> None:
    folder = filled(store, "one", "two")
    store.cell_path("two").write_bytes(b"rubbish")
    data = read_run(folder)
    assert len(data.scores) == 2
    assert [problem["where"] for problem in data.meta["problems"]] == ["cells/two.parquet"]


def test_an_unfinished_run_says_so(store: Store) -> None:
    folder = filled(store, "one", finished=None, cells=["one", "two"])
    (problem,) = read_run(folder).meta["problems"]
    assert "1 of 2 cells" in problem["what"]


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
    assert data.meta["problems"][0]["where"] == "gallery.npz"


def test_run_json_is_readable_text(store: Store) -> None:
    store.write_meta({"name": "x", "folder": store.folder})
    assert json.loads((store.folder / "run.json").read_text())["folder"] == str(store.folder)

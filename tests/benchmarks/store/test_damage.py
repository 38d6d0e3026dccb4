"""Files of a run that are damaged in ways their format cannot tell: each is reported, and none ends a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers.runs import gallery

from benchmarks.store.record import RunRecord
from benchmarks.store.run_folder import Store, read_run
from interp_core.errors import StoreError


def stored(folder: Path, *keys: str) -> Store:
    store = Store(folder)
    scores = {"model": "lap", "explainer": "random", "metric": "auc", "seed": 0, "value": 0.5, "degenerate": False}
    for key in keys:
        store.write_cell(key, pd.DataFrame({**scores, "image_id": ["a"]}), {})
    store.write_record(RunRecord(cells=list(keys), finished="now"))
    return store


def test_cells_that_a_finished_run_has_lost_are_told(tmp_path: Path) -> None:
    store = stored(tmp_path, "one", "two")
    assert read_run(tmp_path).record.problems == []
    Path(str(store.cell_path("two"))).unlink()
    (problem,) = read_run(tmp_path).record.problems
    assert problem.where == "run"
    assert "1 of 2 cells are missing" in problem.what


@pytest.mark.parametrize("layout", [b"x", b"1.5", b"\xff"])
def test_a_cell_whose_layout_is_no_number_is_set_aside(layout: bytes, tmp_path: Path) -> None:
    store = stored(tmp_path, "one")
    path = Path(str(store.cell_path("one")))
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"schema": layout}), path)
    assert "cells/one.parquet" in [problem.where for problem in read_run(tmp_path).record.problems]
    assert store.read_cell("one") is None
    assert len(store.set_aside) == 1


def test_a_cell_with_a_column_twice_is_set_aside(tmp_path: Path) -> None:
    store = stored(tmp_path, "one")
    path = Path(str(store.cell_path("one")))
    table = pq.read_table(path)
    pq.write_table(table.append_column("value", table["value"]), path)
    assert len(read_run(tmp_path).record.problems) == 1
    assert store.read_cell("one") is None
    assert len(store.set_aside) == 1


@pytest.mark.parametrize(
    "arrays",
    [
        {"maps": np.zeros((2, 4, 4), np.float32)},
        {"maps": np.array(["a"])},
        {"maps": np.zeros((2, 1, 4, 4), np.float16), "scale": np.ones(3, np.float32)},
    ],
)
def test_maps_of_another_form_are_set_aside(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    store = Store(tmp_path)
    np.savez(tmp_path / "maps" / "a.npz", **arrays)  # type: ignore[arg-type]
    assert store.read_maps("a") is None
    assert len(store.set_aside) == 1


@pytest.mark.parametrize("name", ["masks", "ids", "images"])
def test_a_gallery_whose_arrays_do_not_belong_together_is_left_out(name: str, tmp_path: Path) -> None:
    stored(tmp_path, "one")
    arrays = gallery(3, 8).to_arrays()
    np.savez(tmp_path / "gallery.npz", **{**arrays, name: arrays[name][:1]})  # type: ignore[arg-type]
    run = read_run(tmp_path)
    assert run.gallery is None
    assert [problem.where for problem in run.record.problems] == ["gallery.npz"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": "x"}', '{"schema": [1]}'])
def test_an_odd_record_is_refused(text: str, tmp_path: Path) -> None:
    stored(tmp_path, "one")
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json") as raised:
        read_run(tmp_path)
    assert "\n" not in str(raised.value)

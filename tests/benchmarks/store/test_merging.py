from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.config.run import RunConfig
from benchmarks.run.engine import Engine, Outcome
from benchmarks.store.gallery import Gallery
from benchmarks.store.merging import merge, merge_galleries
from benchmarks.store.run_folder import read_run
from interp_core.errors import StoreError

KEYS = ["model", "explainer", "metric", "seed", "image_id"]


def scores(folder: Path) -> pd.DataFrame:
    table = read_run(folder).scores
    return table[table["metric"] != "seconds"].sort_values(KEYS, ignore_index=True)


@pytest.mark.slow
def test_parts_computed_apart_are_the_whole(
    done: tuple[RunConfig, Outcome], warm: Callable[..., RunConfig], tmp_path: Path
) -> None:
    whole = done[1].folder
    first = Engine(warm(name="a", metrics=["auc"], explainers=["lap", "grad_cam"])).run().folder
    second = Engine(warm(name="b", metrics=["auc"], explainers=["random", "lap"])).run().folder
    third = Engine(warm(name="c", metrics=[{"name": "pixel_flipping", "steps": 4}])).run().folder
    count = merge([first, second, third], tmp_path / "all")
    pd.testing.assert_frame_equal(scores(tmp_path / "all"), scores(whole))
    data = read_run(tmp_path / "all")
    assert len(data.record.cells) == count == len(list((tmp_path / "all" / "cells").iterdir()))
    assert [entry.name for entry in data.record.merged] == ["a", "b", "c"]
    assert sorted(data.explainers) == sorted(read_run(whole).explainers)
    assert list(data.metrics) == list(read_run(whole).metrics)
    assert [model.name for model in data.record.models] == ["plain", "lap"]
    assert data.gallery is not None
    assert set(data.gallery.maps) == set(read_run(whole).gallery.maps)  # type: ignore[union-attr]


@pytest.mark.slow
def test_seeds_are_put_together(
    done: tuple[RunConfig, Outcome], tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    second = Engine(tiny(name="seed-1", seeds=[1])).run().folder
    merge([done[1].folder, second], tmp_path / "seeds")
    data = read_run(tmp_path / "seeds")
    assert data.record.seeds == [0, 1]
    assert set(data.scores["seed"]) == {0, 1}
    assert [(model.name, model.seed) for model in data.record.models] == [
        (name, seed) for seed in (0, 1) for name in ("plain", "lap")
    ]


@pytest.mark.slow
def test_conflicts_are_all_named_and_nothing_is_written(
    done: tuple[RunConfig, Outcome], warm: Callable[..., RunConfig], tmp_path: Path
) -> None:
    other = Engine(warm(name="other", images=2, metrics=["auc", {"name": "pixel_flipping", "steps": 8}])).run().folder
    with pytest.raises(StoreError) as caught:
        merge([done[1].folder, other], tmp_path / "both")
    assert "images differs" in str(caught.value)
    assert "pixel_flipping has other parameters" in str(caught.value)
    assert not (tmp_path / "both").exists()


def test_the_same_score_from_two_cells_is_a_conflict(done: tuple[RunConfig, Outcome], tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "edited"
    shutil.copytree(done[1].folder, other)
    (cell,) = (other / "cells").glob("plain-0-random-00000-*auc*")
    cell.rename(cell.with_name("plain-0-random-00000-by-other-code.parquet"))
    text = (other / "run.json").read_text()
    (other / "run.json").write_text(text.replace(cell.stem, "plain-0-random-00000-by-other-code"))
    with pytest.raises(StoreError, match="random on plain, seed 0, auc with other settings or code"):
        merge([done[1].folder, other], tmp_path / "both")


def test_a_folder_that_holds_a_run_and_a_single_run_are_refused(
    done: tuple[RunConfig, Outcome], tmp_path: Path
) -> None:
    folder = done[1].folder
    with pytest.raises(StoreError, match="holds a run already"):
        merge([folder, folder], folder)
    with pytest.raises(StoreError, match="two runs or more"):
        merge([folder], tmp_path / "one")


def test_galleries_share_images_by_their_ids() -> None:
    def gallery(ids: list[str], pair: tuple[str, str], value: float) -> Gallery:
        n = len(ids)
        maps = {pair: np.arange(n, dtype=np.float32)[:, None, None] + np.full((n, 2, 2), value, np.float32)}
        return Gallery(np.zeros((n, 2, 2, 3), np.uint8), np.zeros((n, 2, 2), bool), ids, ["x"] * n, maps)

    both = merge_galleries([gallery(["a", "b"], ("m", "lap"), 0), gallery(["c", "b"], ("m", "shap"), 10)])
    assert both.ids == ["a", "b"]
    assert both.image_ids("m", "lap") == {"a", "b"}
    assert both.image_ids("m", "shap") == {"b"}
    assert (both.map_of("m", "shap", 1) == 11).all()

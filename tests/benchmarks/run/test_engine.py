from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.shared import ROOT
from torch import Tensor, nn

from baselines import Explainer, explainers
from benchmarks.config.run import RunConfig
from benchmarks.metrics import Batch, metrics
from benchmarks.plan.cells import explain_cells, score_cells, train_cells
from benchmarks.report import write_report
from benchmarks.run import engine, gallery
from benchmarks.run.counters import Counters
from benchmarks.run.engine import Engine, Outcome
from benchmarks.run.shard import ShardJob
from benchmarks.run.training import TrainedNetwork
from benchmarks.store.cell_files import read_provenance
from benchmarks.store.record import Problem
from benchmarks.store.run_data import RunData
from benchmarks.store.run_folder import read_run
from interp_core.errors import InterpError

pytestmark = pytest.mark.slow

KEYS = ["model", "explainer", "metric", "seed", "image_id"]
PLAIN = [{"name": "plain", "backbone": "test_resnet", "kwargs": {"output_stride": 8}}]


def scores(folder: Path) -> pd.DataFrame:
    """Return all scores but seconds, in a fixed order."""
    table = read_run(folder).scores
    return table[table["metric"] != "seconds"].sort_values(KEYS, ignore_index=True)


def test_a_run_scores_every_pair_that_makes_sense(done: tuple[RunConfig, Outcome]) -> None:
    _, outcome = done
    table = scores(outcome.folder)
    pairs = set(zip(table["model"], table["explainer"], strict=True))
    assert pairs == {("plain", "grad_cam"), ("plain", "random"), ("lap", "lap"), ("lap", "grad_cam"), ("lap", "random")}
    assert table.groupby(["model", "explainer", "metric"])["image_id"].nunique().eq(3).all()
    assert not table["value"].isna().any()
    assert outcome.problems == []
    assert (outcome.computed, outcome.reused) == (5 * 2 * 3, 0)


def test_a_second_run_computes_nothing_and_says_the_same(done: tuple[RunConfig, Outcome]) -> None:
    config, outcome = done
    before = scores(outcome.folder)
    again = Engine(config).run()
    assert (again.computed, again.reused) == (0, outcome.computed)
    pd.testing.assert_frame_equal(scores(outcome.folder), before)


def test_only_what_is_missing_or_damaged_is_computed_again(done: tuple[RunConfig, Outcome]) -> None:
    config, outcome = done
    before = scores(outcome.folder)
    gone, damaged = sorted((outcome.folder / "cells").glob("*auc*.parquet"))[:2]
    gone.unlink()
    damaged.write_bytes(b"rubbish")
    again = Engine(config).run()
    assert again.computed == 2
    assert [damaged.name in problem.what for problem in again.problems] == [True]
    pd.testing.assert_frame_equal(scores(outcome.folder), before)


def test_every_cell_says_how_it_was_made(done: tuple[RunConfig, Outcome]) -> None:
    _, outcome = done
    meta = json.loads((outcome.folder / "run.json").read_text())
    cells = list((outcome.folder / "cells").glob("*.parquet"))
    assert {cell.stem for cell in cells} == set(meta["cells"])
    for cell in cells:
        provenance = read_provenance(cell)
        assert provenance["key"] == cell.stem
        assert provenance["config"] == meta["config_hash"]
        assert provenance["versions"]["torch"] == torch.__version__.split("+")[0]
        assert provenance["device"] == "cpu"


def test_run_json_describes_the_run(done: tuple[RunConfig, Outcome]) -> None:
    config, outcome = done
    meta = json.loads((outcome.folder / "run.json").read_text())
    assert meta["finished"] >= meta["started"]
    assert meta["dataset"]["evaluated"] == 3
    assert [model["grid"] for model in meta["models"]] == [[4, 4], [4, 4]]
    assert RunConfig.model_validate(meta["config"] | {"output": config.output}) == config
    parts = sum(seconds for name, seconds in meta["times"].items() if name not in ("total", "data"))
    assert parts == pytest.approx(meta["times"]["total"], abs=0.1)


def test_a_run_can_be_told_as_a_page(done: tuple[RunConfig, Outcome]) -> None:
    _, outcome = done
    written = write_report(read_run(outcome.folder), outcome.folder)
    assert all(path.stat().st_size > 0 for path in written)
    summary = pd.read_csv(outcome.folder / "tables" / "summary.csv")
    expected = ["model", "explainer", "metric", "direction", "mean", "ci_low", "ci_high", "rank", "n"]
    assert list(summary.columns)[: len(expected)] == expected


@pytest.fixture
def registered() -> Iterator[Callable[[str, Any], None]]:
    names: list[str] = []

    def enter(name: str, explain: Any) -> None:
        explainers.register(name)(type(name, (Explainer,), {"explain": explain, "__module__": __name__}))
        names.append(name)

    yield enter
    for name in names:
        del explainers._entries[name]


def fails(self: Explainer, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    raise RuntimeError("no\nluck")


def nothing(self: Explainer, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return torch.full_like(images, torch.nan)


def test_a_failing_and_a_silent_explainer_hold_up_nobody(
    warm: Callable[..., RunConfig], registered: Callable[[str, Any], None]
) -> None:
    registered("fails", fails)
    registered("nothing", nothing)
    outcome = Engine(warm(explainers=["fails", "nothing", "random"], metrics=["auc"])).run()
    assert [problem.where for problem in outcome.problems] == ["plain, fails", "lap, fails"]
    first = outcome.problems[0]
    assert first.what == "RuntimeError: no luck"
    assert first.cells == 2
    assert first.cell.startswith("plain-0-fails-00000-")
    assert "in fails\n" in (first.traceback or "")
    assert str(ROOT) not in (first.traceback or "")
    assert outcome.failed == 4
    table = scores(outcome.folder)
    assert set(table["explainer"]) == {"nothing", "random"}
    assert table[table["explainer"] == "nothing"]["degenerate"].all()
    assert not table[table["explainer"] == "random"]["degenerate"].any()


def test_degenerate_maps_are_counted_whether_computed_or_found(
    warm: Callable[..., RunConfig], registered: Callable[[str, Any], None]
) -> None:
    registered("nothing", nothing)
    config = warm(explainers=["nothing", "random"], metrics=["auc"])
    expected = [
        {"model": model, "explainer": name, "degenerate": bad, "maps": 3}
        for model in ("lap", "plain")
        for name, bad in (("nothing", 3), ("random", 0))
    ]
    for _ in range(2):
        assert [entry.to_dict() for entry in Engine(config).run().degenerate] == expected
        assert json.loads((config.folder / "run.json").read_text())["degenerate"] == expected


def test_failed_cells_are_tried_again_only_when_asked_for(
    warm: Callable[..., RunConfig], registered: Callable[[str, Any], None]
) -> None:
    calls: list[int] = []

    def moody(self: Explainer, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        calls.append(len(images))
        if len(calls) <= 4:
            raise RuntimeError("no luck")
        return images

    registered("moody", moody)
    config = warm(explainers=["moody", "random"], metrics=["auc"])
    first = Engine(config).run()
    assert (first.failed, first.computed, len(calls)) == (4, 2 * 2 * 2, 4)
    again = Engine(config).run()
    assert (again.computed, len(calls)) == (0, 4)
    assert again.problems == first.problems
    retried = Engine(config, retry_failed=True).run()
    assert (retried.failed, retried.computed, retried.reused) == (0, 2 * 2 * 2, 2 * 2 * 2)
    assert retried.problems == []
    assert Engine(config).run().computed == 0
    assert set(scores(config.folder)["explainer"]) == {"moody", "random"}


def test_a_failing_metric_holds_up_nobody_and_is_retried_alone(
    warm: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, batch: object) -> dict:
        raise ZeroDivisionError("nought")

    config = warm(metrics=["auc", "sparseness"])
    with monkeypatch.context() as patch:
        patch.setattr(metrics["auc"], "score", broken)
        outcome = Engine(config).run()
    assert all(problem.what == "ZeroDivisionError: nought" for problem in outcome.problems)
    assert [problem.cells for problem in outcome.problems] == [2] * 5
    assert set(scores(outcome.folder)["metric"]) >= {"sparseness", "forwards"}
    assert Engine(config, retry_failed=True).run().computed == 10


def test_a_network_whose_training_fails_is_left_out(
    tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.run import staged_training

    real = staged_training.fit

    def fit(network: nn.Module, *given: Any, **more: Any) -> Any:
        if hasattr(network, "backbone"):
            raise RuntimeError("diverged")
        return real(network, *given, **more)

    monkeypatch.setattr(staged_training, "fit", fit)
    config = tiny(metrics=["auc"], explainers=["random"])
    outcome = Engine(config).run()
    assert [(p.where, p.what) for p in outcome.problems] == [("lap, seed 0", "RuntimeError: diverged")]
    assert set(scores(config.folder)["model"]) == {"plain"}
    monkeypatch.setattr(staged_training, "fit", real)
    assert Engine(config).run().failed == 1
    assert Engine(config, retry_failed=True).run().failed == 0


def test_an_explainer_whose_probe_fails_is_left_out(
    warm: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(self: Explainer, model: nn.Module) -> str | None:
        raise KeyError("layer")

    monkeypatch.setattr(explainers["grad_cam"], "refusal", probe)
    outcome = Engine(warm(metrics=["auc"])).run()
    assert [problem.what for problem in outcome.problems] == ["left out: KeyError: 'layer'"] * 2
    assert outcome.failed == 0


def test_explainers_that_do_not_fit_a_network_are_left_out_and_said(
    warm: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainers["grad_cam"], "refusal", lambda self, model: "it has no last map")
    outcome = Engine(warm(metrics=["auc"])).run()
    assert outcome.failed == 0
    assert [problem.where for problem in outcome.problems] == ["plain, grad_cam", "lap, grad_cam"]
    assert "it has no last map" in outcome.problems[0].what


def test_what_makes_maps_doubtful_is_told_by_model(
    warm: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt = {"plain": "its sums are off"}
    monkeypatch.setattr(
        explainers["grad_cam"], "caveat", lambda self, model: None if hasattr(model, "backbone") else doubt["plain"]
    )
    outcome = Engine(warm(metrics=["auc"])).run()
    infos = json.loads((outcome.folder / "run.json").read_text())["explainers"]
    assert {info["name"]: info["caveats"] for info in infos} == {"lap": {}, "grad_cam": doubt, "random": {}}


def test_areas_of_the_evidence_are_told_for_every_image(done: tuple[RunConfig, Outcome]) -> None:
    _, outcome = done
    areas = json.loads((outcome.folder / "run.json").read_text())["dataset"]["areas"]
    assert list(areas) == sorted(set(scores(outcome.folder)["image_id"]), key=list(areas).index)
    assert all(0 < area < 0.5 for area in areas.values())


def test_shards_come_before_explainers_and_share_their_passes(
    warm: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    real = metrics["auc"].score
    monkeypatch.setattr(metrics["auc"], "needs_model", True)

    def spy(self: Any, batch: Batch) -> dict[str, np.ndarray]:
        assert batch.passes is not None
        assert batch.explain is not None
        assert batch.passes.images.shape == batch.images.shape
        seen.append((type(batch.model).__name__, id(batch.passes), len(batch.images)))
        return real(self, batch)

    monkeypatch.setattr(metrics["auc"], "score", spy)
    monkeypatch.setattr(engine, "audit", lambda *given: [])  # which scores again
    Engine(warm(explainers=["grad_cam", "random"], metrics=["auc"])).run()
    assert [n for *_, n in seen] == [2, 2, 1, 1] * 2
    pairs = [seen[i : i + 2] for i in range(0, len(seen), 2)]
    assert all(one == other for one, other in pairs)
    assert len({(name, at) for (name, at, _), _ in pairs}) >= 2


def test_metrics_can_ask_the_explainer_again(warm: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    gaps: list[float] = []
    real = metrics["auc"].score

    def spy(self: Any, batch: Batch) -> dict[str, np.ndarray]:
        assert batch.explain is not None
        again = batch.explain(batch.model, batch.images, batch.targets)
        gaps.append(float(np.abs(again - batch.maps).max() / np.ptp(batch.maps)))
        return real(self, batch)

    monkeypatch.setattr(metrics["auc"], "score", spy)
    monkeypatch.setattr(engine, "audit", lambda *given: [])  # which scores again
    Engine(warm(explainers=["grad_cam", "random"], metrics=["auc"])).run()
    assert len(gaps) == 8
    assert max(gaps) < 1e-4  # what breaks ties


def test_pieces_of_a_shard_are_what_shards_of_that_size_are(warm: Callable[..., RunConfig]) -> None:
    given: dict[str, Any] = {"models": PLAIN, "explainers": ["grad_cam", "random"]}
    whole = Engine(warm(name="one", shard=1, **given)).run()
    pieces = Engine(warm(name="two", shard=3, batch_size=1, **given)).run()
    pd.testing.assert_frame_equal(scores(whole.folder), scores(pieces.folder))


@pytest.mark.parametrize(("size", "problems"), [("auto", 0), (3, 2)])
def test_memory_that_does_not_suffice_halves_the_pieces(
    warm: Callable[..., RunConfig], registered: Callable[[str, Any], None], size: int | str, problems: int
) -> None:
    asked: list[int] = []

    def greedy(self: Explainer, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        asked.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError("too much")
        return images

    registered("greedy", greedy)
    outcome = Engine(warm(explainers=["greedy"], metrics=["auc"], shard=3, batch_size=size)).run()
    assert len(outcome.problems) == problems
    assert asked == ([3, 1, 1, 1, 1, 1, 1] if size == "auto" else [3, 3])


@pytest.mark.parametrize("kept", ["none", "float16", "float32"])
def test_maps_are_kept_as_asked_and_a_new_metric_finds_or_makes_them(warm: Callable[..., RunConfig], kept: str) -> None:
    def config(*names: str) -> RunConfig:
        return warm(name="kept", metrics=list(names), keep_maps=kept, gallery=1, images=6)

    first = Engine(config("auc")).run()
    maps = {path.stem: np.load(path)["maps"] for path in (first.folder / "maps").glob("*.npz")}
    assert len(maps) == 5 * (1 if kept == "none" else 3)
    assert {values.dtype for values in maps.values()} == {np.dtype("float16" if kept == "float16" else "float32")}
    both = Engine(config("auc", "sparseness")).run()
    assert (both.computed, both.reused) == (5 * 3, 5 * 3 * 2)
    at_once = warm(name="at-once", metrics=["auc", "sparseness"], keep_maps=kept, gallery=1, images=6)
    pd.testing.assert_frame_equal(scores(both.folder), scores(Engine(at_once).run().folder))


def test_building_a_fresh_engine_deletes_nothing(done: tuple[RunConfig, Outcome]) -> None:
    config, _ = done

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in Path(config.folder).rglob("*") if path.is_file()}

    before = content()
    assert before
    Engine(config, fresh=True)
    assert content() == before


def test_a_fresh_run_computes_everything_and_leaves_strange_files(done: tuple[RunConfig, Outcome]) -> None:
    config, outcome = done
    (config.folder / "notes.txt").write_text("mine")
    again = Engine(config, fresh=True).run()
    assert (again.computed, again.reused) == (outcome.computed, 0)
    assert (config.folder / "notes.txt").read_text() == "mine"


def test_validation_images_are_judged_where_asked_for(warm: Callable[..., RunConfig]) -> None:
    asked = warm(split="val", metrics=[{"name": "sparseness"}])
    assert asked.hash() != warm(metrics=[{"name": "sparseness"}]).hash()
    outcome = Engine(asked).run()
    assert {name.split("/")[1] for name in scores(outcome.folder)["image_id"]} == {"val"}
    assert json.loads((outcome.folder / "run.json").read_text())["dataset"]["split"] == "val"


def test_overrides_are_told(warm: Callable[..., RunConfig]) -> None:
    config = warm(metrics=["auc"], explainers=["random"])
    Engine(config, overrides={"images": 3}).run()
    assert json.loads((config.folder / "run.json").read_text())["overrides"] == {"images": 3}


def test_a_run_in_memory_says_the_same_as_one_on_disk(
    done: tuple[RunConfig, Outcome], tiny: Callable[..., RunConfig]
) -> None:
    config = tiny(output="memory://runs")
    outcome = Engine(config).run()
    assert str(outcome.folder) == "memory://runs/tiny"
    pd.testing.assert_frame_equal(scores(outcome.folder), scores(done[1].folder))
    assert read_run("memory://runs/tiny").gallery is not None
    again = Engine(config).run()
    assert (again.computed, again.reused) == (0, outcome.computed)


def test_ablations_score_the_same_maps_once_more(
    warm: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = Explainer.measure

    def measure(self: Explainer, *given: Any, **more: Any) -> Any:
        calls.append(self.name)
        return real(self, *given, **more)

    monkeypatch.setattr(Explainer, "measure", measure)
    given: dict[str, Any] = {"metrics": ["auc", "sparseness"], "explainers": ["grad_cam", "random"]}
    plain = Engine(warm(**given)).run()
    made = len(calls)
    more = Engine(warm(**given, smoothing=[2], grids=[4], sharpening=[0.5, 2])).run()
    assert len(calls) == made == 2 * 2 * 2
    assert (more.computed, more.reused) == (2 * 2 * 2 * 2 * 4, plain.computed)
    table = scores(more.folder)
    ends = ["", "@smooth2", "@grid4", "@sharp0.5", "@sharp2"]
    assert set(table["explainer"]) == {f"{name}{end}" for name in ("grad_cam", "random") for end in ends}
    auc = table[table["metric"] == "auc"].pivot_table(index=["model", "image_id"], columns="explainer", values="value")
    # a power keeps the order of positive values
    assert (auc["grad_cam@sharp2"] - auc["grad_cam"]).abs().max() < 1e-3
    assert (auc["random@smooth2"] != auc["random"]).all()
    meta = json.loads((more.folder / "run.json").read_text())
    assert [entry["name"] for entry in meta["ablations"]] == ["smooth2", "grid4", "sharp0.5", "sharp2"]


def test_a_grid_finer_than_the_images_is_refused(warm: Callable[..., RunConfig]) -> None:
    with pytest.raises(InterpError, match="64 cells a side do not fit images of 32 pixels"):
        Engine(warm(grids=[64])).run()


def test_the_gallery_holds_images_of_all_classes_and_those_that_tell_most(
    warm: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wanted(data: RunData) -> dict[tuple[str, str], list[str]]:
        ids = list(data.record.dataset.areas)
        return {("lap", "lap"): [ids[7], ids[3]], ("lap", "grad_cam"): [ids[3], ids[0]]}

    monkeypatch.setattr(engine, "images_to_keep", wanted)
    monkeypatch.setattr(gallery, "classes_in_turn", lambda targets, count: list(range(min(count, len(targets)))))
    outcome = Engine(warm(images=8, shard=3, gallery=2, metrics=["auc"])).run()
    data = read_run(outcome.folder)
    found, ids = data.gallery, list(data.record.dataset.areas)
    assert found is not None
    assert found.ids == [ids[i] for i in (0, 1, 3, 7)]
    assert found.image_ids("lap", "lap") == {ids[i] for i in (0, 1, 3, 7)}
    assert found.image_ids("lap", "grad_cam") == {ids[i] for i in (0, 1, 3)}
    assert found.shared_positions("plain") == found.shared_positions("lap") == [0, 1]
    (path,) = (outcome.folder / "maps").glob("lap-0-grad_cam-00003-*")
    kept = np.load(path)["maps"][0, 0].astype(np.float16).astype(np.float32)
    assert (found.map_of("lap", "grad_cam", 2) == kept).all()


def test_bad_names_stop_a_run_before_anything_is_written(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(InterpError, match="grad_cam"):
        Engine(tiny(explainers=["gradcam"]))
    assert not tiny().folder.exists()


KILLED = """
import sys
from pathlib import Path
from benchmarks.config.load import load_config
from benchmarks.run.engine import Engine
Engine(load_config(Path(sys.argv[1]), {"name": "killed"})).run()
"""


def test_a_killed_run_goes_on_where_it_was(tiny_file: Callable[..., Path], tiny: Callable[..., RunConfig]) -> None:
    cheap: dict[str, Any] = {"metrics": ["auc", "sparseness"]}
    file, whole = tiny_file(**cheap), Engine(tiny(**cheap)).run()
    folder = whole.folder.with_name("killed")
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(file)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while len(list((folder / "cells").glob("*.parquet"))) < 4 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = len(list((folder / "cells").glob("*.parquet")))
    partial = read_run(folder)
    assert "not finished" in partial.record.problems[0].what
    outcome = Engine(tiny(name="killed", **cheap)).run()
    assert 0 < outcome.computed <= whole.computed - there + 1
    pd.testing.assert_frame_equal(scores(folder), scores(whole.folder))
    assert not read_run(folder).record.problems


def test_looking_up_a_shard_records_nothing(done: tuple[RunConfig, Outcome]) -> None:
    config, outcome = done
    (gone, *_) = sorted((outcome.folder / "cells").glob("lap-0-lap-00000-*auc*.parquet"))
    gone.unlink()
    worker = Engine(config).worker
    cells = explain_cells(config, worker.components, train_cells(config, worker.components), ["a", "b"])
    trained = TrainedNetwork(train_cells(config, worker.components)[1], nn.Identity(), {})
    job = ShardJob(worker, trained, None, print)  # type: ignore[arg-type]
    worker.store.write_failure("failed", Problem(where="lap"))
    for cell in cells:
        scores = score_cells(worker.components, cell, worker.transforms)
        scores = [*scores, replace(scores[0], key="failed")]
        first, second = job.look_up(cell, scores), job.look_up(cell, scores)
        assert (first.reused, first.missing, first.failures) == (second.reused, second.missing, second.failures)
        assert first.failures[0] == Problem(where="lap")
        assert "failed" not in first.missing
    assert job.counters == Counters()

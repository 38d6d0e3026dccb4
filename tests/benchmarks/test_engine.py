from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from baselines import Explainer, explainers
from benchmarks.config import RunConfig
from benchmarks.engine import Engine, Outcome
from benchmarks.metrics import metrics
from benchmarks.report import write_report
from benchmarks.store import read_provenance, read_run
from interp_core.errors import InterpError

KEYS = ["model", "explainer", "metric", "seed", "image_id"]


def scores(folder: Path) -> pd.DataFrame:
    """All scores but seconds, in a fixed order."""
    table = read_run(folder).scores
    return table[table["metric"] != "seconds"].sort_values(KEYS, ignore_index=True)


@pytest.fixture
def done(tiny: Callable[..., RunConfig]) -> tuple[RunConfig, Outcome]:
    config = tiny()
    return config, Engine(config).run()


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
    assert [damaged.name in problem["what"] for problem in again.problems] == [True]
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


def test_a_failing_and_a_silent_explainer_hold_up_nobody(
    tiny: Callable[..., RunConfig], registered: Callable[[str, Any], None]
) -> None:
    def fails(self: Explainer, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        raise RuntimeError("no\nluck")

    def nothing(self: Explainer, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return torch.full_like(images, torch.nan)

    registered("fails", fails)
    registered("nothing", nothing)
    outcome = Engine(tiny(explainers=["fails", "nothing", "random"])).run()
    assert {problem["where"].split(",")[1].strip() for problem in outcome.problems} == {"fails"}
    assert outcome.problems[0]["what"] == "RuntimeError: no luck"
    table = scores(outcome.folder)
    assert set(table["explainer"]) == {"nothing", "random"}
    assert table[table["explainer"] == "nothing"]["degenerate"].all()
    assert not table[table["explainer"] == "random"]["degenerate"].any()
    again = Engine(tiny(explainers=["fails", "nothing", "random"])).run()
    assert again.computed == 0
    assert again.problems == outcome.problems


def test_a_failing_metric_holds_up_nobody(tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object, batch: object) -> dict:
        raise ZeroDivisionError("nought")

    monkeypatch.setattr(metrics["auc"], "score", fails)
    outcome = Engine(tiny()).run()
    assert all(problem["what"] == "ZeroDivisionError: nought" for problem in outcome.problems)
    assert len(outcome.problems) == 5
    assert set(scores(outcome.folder)["metric"]) >= {"pixel_flipping_morf", "forwards"}


def test_explainers_that_do_not_fit_a_network_are_left_out_and_said(
    tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainers["grad_cam"], "unsupported", lambda self, model: "it has no last map")
    outcome = Engine(tiny()).run()
    assert [problem["where"] for problem in outcome.problems] == ["plain, grad_cam", "lap, grad_cam"]
    assert "it has no last map" in outcome.problems[0]["what"]


def test_bad_names_stop_a_run_before_anything_is_written(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(explainers=["gradcam"])
    with pytest.raises(InterpError, match="grad_cam"):
        Engine(config)
    assert not config.folder.exists()


KILLED = """
import sys
from pathlib import Path
from benchmarks.config import load_config
from benchmarks.engine import Engine
Engine(load_config(Path(sys.argv[1]), {"name": "killed"})).run()
"""


def test_a_killed_run_goes_on_where_it_was(tiny_file: Callable[..., Path], tiny: Callable[..., RunConfig]) -> None:
    file, whole = tiny_file(), Engine(tiny()).run()
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
    assert "not finished" in partial.meta["problems"][0]["what"]
    outcome = Engine(tiny(name="killed")).run()
    assert 0 < outcome.computed <= whole.computed - there + 1
    pd.testing.assert_frame_equal(scores(folder), scores(whole.folder))
    assert not read_run(folder).meta["problems"]

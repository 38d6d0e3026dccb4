"""Work shared with a helper gives what one process gives, and each item is done once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from safetensors.torch import load_file

from benchmarks.config.errors import ConfigError
from benchmarks.config.run import RunConfig
from benchmarks.run.counters import Clock
from benchmarks.run.engine import Engine, Outcome
from benchmarks.run.helper import Helper
from benchmarks.run.work import ShardItem
from benchmarks.store.run_folder import read_run


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restore torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_helper_trains_and_scores_the_same(tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[ShardItem] = []
    share = Helper.share

    def note_shards(helper: Helper, items: Any, *arguments: Any) -> Any:
        shared.extend(item for item in items if isinstance(item, ShardItem))
        return share(helper, items, *arguments)

    monkeypatch.setattr(Helper, "share", note_shards)
    changes: dict[str, Any] = {"explainers": ["grad_cam", "random"], "metrics": ["auc", "pixel_flipping"], "shard": 2}
    engine = Engine(tiny(name="beside", threads=2, **changes), has_helper=True)
    beside, alone = engine.run(), Engine(tiny(name="alone", threads=1, **changes)).run()
    assert engine.helper is not None
    assert len(shared) > 1
    assert beside.problems == alone.problems == []
    assert (beside.computed, beside.degenerate) == (alone.computed, alone.degenerate)
    weights = [
        {path.name: load_file(path) for path in (outcome.folder / "models").glob("*.safetensors")}
        for outcome in (beside, alone)
    ]
    assert len(weights[0]) > 1
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert_frame_equal(read_scores(beside), read_scores(alone))


@pytest.mark.slow
def test_what_is_stored_starts_no_helper(done: tuple[RunConfig, Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    config, before = done

    def refuse(*_: object) -> None:
        raise AssertionError("the helper was started")

    monkeypatch.setattr(Helper, "_start", refuse)
    again = Engine(config.model_copy(update={"threads": 2}), has_helper=True).run()
    assert (again.computed, again.reused) == (0, before.computed)


def read_scores(outcome: Outcome) -> pd.DataFrame:
    """Read the scores of a run, without what explaining cost."""
    scores = read_run(outcome.folder).scores
    scores = scores[~scores["metric"].isin(["seconds", "forwards", "backwards"])]
    return scores.sort_values(["model", "explainer", "metric", "seed", "image_id"], ignore_index=True)


class Inline:
    """Stand-in for the pool: a task ends soon after it is submitted; some break the pool.

    Args:
        broken: number of the task that breaks it, and all later ones.
    """

    def __init__(self, broken: int | None = None) -> None:
        self.count, self.broken = 0, broken

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Return the future of a task."""
        self.count += 1
        if self.broken is not None and self.count > self.broken:
            raise BrokenProcessPool
        future: Future[Any] = Future()
        if self.count == self.broken:
            ending = partial(future.set_exception, BrokenProcessPool())
        else:
            ending = partial(_complete, future, task, arguments)
        threading.Timer(0.05, ending).start()
        return future


def _complete(future: Future[Any], task: Callable[..., Any], arguments: Sequence[Any]) -> None:
    future.set_result(task(*arguments))


def run_shared(helper: Helper, items: Sequence[str], here_seconds: float) -> tuple[list[str], list[str], Clock]:
    """Share items, and return those that were done here, those of the helper, and the clock."""
    here: list[str] = []
    clock = Clock()

    def work_here(item: str) -> None:
        assert torch.get_num_threads() == 2
        here.append(item)
        time.sleep(here_seconds)

    there = list(helper.share(items, lambda _, item: item, work_here, clock, "pairs"))
    assert torch.get_num_threads() == 4
    return here, there, clock


@pytest.fixture
def helper(tiny: Callable[..., RunConfig]) -> Helper:
    """Return a helper of four threads without a process."""
    torch.set_num_threads(4)
    helper = Helper(tiny(), {}, threads=4, retry_failed=False)
    helper._pool = Inline()  # type: ignore[assignment]
    return helper


def test_each_item_is_done_once_and_the_last_one_here(helper: Helper) -> None:
    here, there, _ = run_shared(helper, ["a", "b", "c", "d", "e"], 0.06)
    assert here[0] == "e"
    assert there[0] == "a"
    assert sorted(here + there) == ["a", "b", "c", "d", "e"]


def test_waiting_for_the_helper_is_timed(helper: Helper) -> None:
    here, there, clock = run_shared(helper, ["a", "b"], 0.0)
    assert (here, there) == (["b"], ["a"])
    assert 0 < clock.seconds["pairs"] < 50


@pytest.mark.parametrize("broken", [1, 2])
def test_what_a_dead_helper_leaves_is_done_here(helper: Helper, broken: int) -> None:
    helper._pool = Inline(broken)  # type: ignore[assignment]
    here, there, _ = run_shared(helper, ["a", "b", "c", "d"], 0.01)
    assert there == ["a"][: broken - 1]
    assert sorted(here + there) == ["a", "b", "c", "d"]


def test_what_a_closed_pool_refuses_is_done_here(helper: Helper) -> None:
    pool = Inline()
    accept = pool.submit

    def submit(task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if pool.count:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return accept(task, *arguments)

    pool.submit = submit  # type: ignore[method-assign]
    helper._pool = pool  # type: ignore[assignment]
    here, there, _ = run_shared(helper, ["a", "b", "c"], 0.1)
    assert (sorted(here), there) == (["b", "c"], ["a"])


def test_an_error_of_the_helper_is_raised(helper: Helper) -> None:
    def task(_context: object, item: str) -> str:
        raise ConfigError(item)

    pool = Inline()
    pool.submit = lambda task, *arguments: _failed(task, arguments)  # type: ignore[method-assign]
    helper._pool = pool  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="a"):
        list(helper.share(["a", "b"], task, lambda _: None, Clock(), "train"))


def _failed(task: Callable[..., Any], arguments: Sequence[Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        task(*arguments)
    except ConfigError as error:
        future.set_exception(error)
    return future


@pytest.mark.parametrize("changes", [{"threads": 1}, {"threads": 2, "engine": "ray"}], ids=["one thread", "cluster"])
def test_no_helper_where_it_cannot_help(tiny: Callable[..., RunConfig], changes: dict[str, Any]) -> None:
    if "engine" in changes:
        pytest.importorskip("ray")
    assert Engine(tiny(**changes), has_helper=True).helper is None

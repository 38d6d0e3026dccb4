"""Two networks trained at a time are those that are trained one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.config.run import RunConfig
from benchmarks.run.counters import Clock, Counters
from benchmarks.run.engine import Engine
from benchmarks.run.helper import TrainingHelper


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restore torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_helper_trains_the_same_networks(tiny: Callable[..., RunConfig]) -> None:
    changes: dict[str, Any] = {"explainers": ["random"], "metrics": ["auc"]}
    engine = Engine(tiny(name="beside", threads=2, **changes), has_helper=True)
    beside, alone = engine.run(), Engine(tiny(name="alone", threads=1, **changes)).run()
    assert engine.helper is not None
    assert beside.problems == alone.problems == []
    weights = [
        {path.name: load_file(path) for path in (outcome.folder / "models").glob("*.safetensors")}
        for outcome in (beside, alone)
    ]
    assert len(weights[0]) > 1
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


class Inline:
    """Stand-in for the pool: its first task has begun, and ends when it is asked for."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, task: Callable[..., Counters], *arguments: Any) -> Future[Counters]:
        """Return the future of a task, which only the first one begins."""
        future: Future[Counters] = Future()
        self.count += 1
        if self.count == 1:
            future.set_running_or_notify_cancel()
            threading.Timer(0.05, lambda: future.set_result(task(*arguments))).start()
        return future


def test_the_longest_and_what_the_helper_has_not_begun_are_trained_here(tiny: Callable[..., RunConfig]) -> None:
    helper = TrainingHelper(tiny(), {}, threads=4, retry_failed=False)
    helper._pool = Inline()  # type: ignore[assignment]
    here: list[tuple[str, int]] = []

    def task(_context: object, item: str) -> Counters:
        return Counters(computed=len(item), clock=Clock({"train": 100.0}))

    def train_here(item: str) -> None:
        here.append((item, torch.get_num_threads()))

    (counters,) = helper.train(["a", "bb", "ccc"], task, train_here, "pairs")
    assert here == [("ccc", 2), ("bb", 2)]
    assert counters.computed == 1
    assert set(counters.clock.seconds) == {"pairs"}
    assert counters.clock.seconds["pairs"] < 50  # its own times passed beside
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("changes", [{"threads": 1}, {"threads": 2, "engine": "ray"}], ids=["one thread", "cluster"])
def test_no_helper_where_it_cannot_help(tiny: Callable[..., RunConfig], changes: dict[str, Any]) -> None:
    if "engine" in changes:
        pytest.importorskip("ray")
    assert Engine(tiny(**changes), has_helper=True).helper is None

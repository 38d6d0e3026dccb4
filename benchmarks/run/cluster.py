"""Trains, explains and scores on a Ray cluster: one task per network to train, then one per network and shard.

A shard's tasks would otherwise each make the forward passes that its metrics share. Tasks get the shard's images with
them and find networks, and leave cells, in the run's folder: on more than one machine that is a shared file system or
a URL. What a task leaves is written whole and found again, so a task whose worker was killed is simply started again.
Each process keeps its parts and its last network between tasks. torch uses the run's `threads`, or one, whatever the
machine: a local run with as many threads ends with the same tables.

Known limits: explainers and metrics of one's own must be importable on every machine; seconds of tasks that share a
machine, or a GPU, are longer than alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from benchmarks.config.device import resolve_device
from benchmarks.config.errors import ConfigError
from benchmarks.config.run import RunConfig
from benchmarks.plan.cells import TrainCell
from benchmarks.plan.components import RunComponents
from benchmarks.run.counters import Counters
from benchmarks.run.images import RunImages
from benchmarks.run.malloc import keep_freed_memory
from benchmarks.run.shard import Shard, ShardWorker
from benchmarks.run.training import TrainedNetwork, load_trained
from benchmarks.store.locations import is_url
from benchmarks.store.provenance import digest
from benchmarks.store.record import Problem
from benchmarks.store.run_folder import Store
from interp_core.errors import InterpError, StoreError, one_line

# Tasks handed out for each that can run, so that no worker waits for its next one.
QUEUED_PER_WORKER = 2
Work = tuple[TrainCell, Shard, Sequence[str]]


@dataclass(frozen=True)
class RayJobContext:
    """What tasks need to know of the run; the same for all of them."""

    config: RunConfig
    provenance: str
    retry_failed: bool

    @property
    def key(self) -> str:
        """Of all of it."""
        return digest(self.config, self.provenance, self.retry_failed)


class Cluster:
    """A connection to a Ray cluster, inside a `with` block; a cluster started here ends with it.

    Args:
        config: the run, with its `ray` settings.
        provenance: what every cell says of the run it was made in.
        retry_failed: whether cells that failed before are tried again.
    """

    def __init__(self, config: RunConfig, provenance: dict[str, Any], *, retry_failed: bool = False) -> None:
        self.config = config
        self.setting = RayJobContext(_portable(config), json.dumps(provenance, default=str), retry_failed)

    def __enter__(self) -> Cluster:
        import ray

        given = self.config.ray
        self.owned = not ray.is_initialized()
        if self.owned:
            own: dict[str, Any] = (
                {} if given.address else {"num_cpus": given.workers or None, "include_dashboard": False}
            )
            try:
                ray.init(address=given.address, log_to_driver=False, **own)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ConfigError(f"no Ray cluster at {given.address or 'this machine'}: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        if self.owned:
            ray.shutdown()

    def train(self, cells: Sequence[TrainCell]) -> Iterator[Counters]:
        """Train networks that are not in the store; what came of each, in the order of completion."""
        for (cell,), outcome in self._spread(train_task, ((cell,) for cell in cells)):
            where = f"{cell.model.name}, seed {cell.seed}"
            yield _lost(where, outcome, cell.key) if isinstance(outcome, Exception) else outcome

    def work(self, tasks: Iterable[Work]) -> Iterator[tuple[Counters, int]]:
        """Work on shards; what came of each and how many cells it has, in the order of completion."""
        for (cell, shard, _), outcome in self._spread(work_task, tasks):
            if isinstance(outcome, Exception):
                where = f"{cell.model.name}, images {shard.start}-{shard.start + len(shard.split) - 1}"
                yield _lost(where, outcome, cell.key), 0
            else:
                yield outcome

    def _spread(self, function: Callable, tasks: Iterable[tuple]) -> Iterator[tuple[tuple, Any]]:
        """Each task with what `function` made of it, or with the error it was lost by."""
        import ray

        given = self.config.ray
        options: dict[str, Any] = {"num_cpus": given.cpus, "num_gpus": given.gpus, "max_retries": given.retries}
        remote = ray.remote(**options)(function)
        most = QUEUED_PER_WORKER * max(1, int(ray.cluster_resources().get("CPU", 1) / given.cpus))
        setting, left = ray.put(self.setting), iter(tasks)
        waiting: dict[Any, tuple] = {}
        while True:
            for task in islice(left, most - len(waiting)):
                waiting[remote.remote(setting, *task)] = task
            if not waiting:
                return
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(ready)
            try:
                yield task, ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, InterpError):  # the user's to mend
                    raise error.cause from error
                yield task, error.cause
            except ray.exceptions.RayError as error:
                yield task, error


def train_task(setting: RayJobContext, cell: TrainCell) -> Counters:
    """Train one network in this process, or find it in the store."""
    desk, counters = _desk(setting), Counters()
    with counters.clock.measure("train"):
        desk.worker.train(cell, desk.data, counters, lambda _: None)
    return counters


def work_task(setting: RayJobContext, cell: TrainCell, shard: Shard, names: Sequence[str]) -> tuple[Counters, int]:
    """Work on one shard in this process; what came of it and how many cells it has."""
    desk = _desk(setting)
    steps: list[str] = []
    return desk.worker.work(desk.network(cell), shard, names, steps.append), len(steps)


class RayWorkerState:
    """What a process keeps between the tasks of a run: parts, data, and the last network."""

    def __init__(self, setting: RayJobContext) -> None:
        config = setting.config
        keep_freed_memory()
        torch.set_num_threads(config.threads or 1)
        parts, store = RunComponents(config), Store(config.folder)
        made = json.loads(setting.provenance)
        self.key, self.data = setting.key, RunImages(parts.dataset)
        self.worker = ShardWorker(
            config, parts, store, resolve_device(config.device), made, retry_failed=setting.retry_failed
        )
        self._last: TrainedNetwork | None = None

    def network(self, cell: TrainCell) -> TrainedNetwork:
        """The network of a cell, from the store.

        Raises:
            StoreError: it is not there.
        """
        if self._last is None or self._last.cell.key != cell.key:
            worker = self.worker
            self._last = load_trained(cell, worker.parts, worker.store, worker.device)
        if self._last is None:
            raise StoreError(f"no network {cell.key} in {self.worker.store.folder}: can every machine see this folder?")
        return self._last


_desks: dict[str, RayWorkerState] = {}


def _desk(setting: RayJobContext) -> RayWorkerState:
    """The desk of a run in this process; that of the run before goes."""
    if setting.key not in _desks:
        _desks.clear()
        _desks[setting.key] = RayWorkerState(setting)
    return _desks[setting.key]


def _portable(config: RunConfig) -> RunConfig:
    """The same run with paths that hold in a process that starts elsewhere."""
    output = config.output if is_url(config.output) else Path(config.output).resolve()
    plugins = tuple(str(Path(name).resolve()) if name.endswith(".py") else name for name in config.plugins)
    return config.model_copy(update={"output": output, "plugins": plugins})


def _lost(where: str, error: Exception, key: str) -> Counters:
    """A task that did not come back; it has left no record in the store and is run again by the next run."""
    what = f"lost on the cluster: {one_line(error, with_type=True)}"
    return Counters(problems=[Problem(where=where, what=what, traceback=str(error), cell=key)])

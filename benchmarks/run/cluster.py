"""Train, explain and score on a Ray cluster: one task for each network to train, then one for each network and shard.

A task has a whole shard, so that its metrics share forward passes. It brings the images of the shard with it, reads the
network from the run's folder and writes cells there: on several machines that is a shared file system or a URL. Results
are written whole and looked up again, so a task whose worker was killed is simply started again. Each process keeps its
components and its last network between tasks. torch uses the run's `threads`, or one, so that a local run with as many
threads ends with the same tables.

Known limits: explainers and metrics of plugins must be importable on every machine; times are longer than alone where
tasks share a machine or a GPU.
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
ShardTask = tuple[TrainCell, Shard, Sequence[str]]


@dataclass(frozen=True)
class JobContext:
    """What all tasks of a run need to know.

    Attributes:
        config: the run, with paths that hold on every machine.
        provenance: of the run, as JSON.
        retry_failed: whether cells that failed before are tried again.
    """

    config: RunConfig
    provenance: str
    retry_failed: bool

    @classmethod
    def of(cls, config: RunConfig, provenance: dict[str, Any], *, retry_failed: bool) -> JobContext:
        """Make the context of a run."""
        return cls(_with_absolute_paths(config), json.dumps(provenance, default=str), retry_failed)

    @property
    def key(self) -> str:
        """Hash of the context."""
        return digest(self.config, self.provenance, self.retry_failed)


class Cluster:
    """A connection to a Ray cluster inside a `with` block. A cluster started here ends with the block.

    Args:
        config: the run, with its `ray` settings.
        provenance: of the run, written into every cell.
        retry_failed: whether cells that failed before are tried again.

    Raises:
        ConfigError: on entering the block, no cluster can be reached or started.
    """

    def __init__(self, config: RunConfig, provenance: dict[str, Any], *, retry_failed: bool = False) -> None:
        self.config, self.context = config, JobContext.of(config, provenance, retry_failed=retry_failed)

    def __enter__(self) -> Cluster:
        import ray

        settings = self.config.ray
        self.is_owner = not ray.is_initialized()
        if self.is_owner:
            local = {"num_cpus": settings.workers or None, "include_dashboard": False}
            options: dict[str, Any] = {} if settings.address else local
            try:
                ray.init(address=settings.address, log_to_driver=False, **options)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ConfigError(f"no Ray cluster at {settings.address or 'this machine'}: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        if self.is_owner:
            ray.shutdown()

    def train(self, cells: Sequence[TrainCell]) -> Iterator[Counters]:
        """Train networks that are not in the store, and yield the counters of each as it is done."""
        for (cell,), outcome in self._run_tasks(train_task, ((cell,) for cell in cells)):
            label = f"{cell.model.name}, seed {cell.seed}"
            yield _lost_task(label, outcome, cell.key) if isinstance(outcome, Exception) else outcome

    def work(self, tasks: Iterable[ShardTask]) -> Iterator[tuple[Counters, int]]:
        """Work on shards, and yield the counters and the number of cells of each as it is done."""
        for (cell, shard, _), outcome in self._run_tasks(work_task, tasks):
            if isinstance(outcome, Exception):
                label = f"{cell.model.name}, images {shard.start}-{shard.start + len(shard.split) - 1}"
                yield _lost_task(label, outcome, cell.key), 0
            else:
                yield outcome

    def _run_tasks(self, function: Callable, tasks: Iterable[tuple]) -> Iterator[tuple[tuple, Any]]:
        """Yield each task with the result of `function`, or with the error that ended it, as it is done.

        Raises:
            InterpError: a setting does not fit; the user has to change it.
        """
        import ray

        settings = self.config.ray
        options: dict[str, Any] = {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "max_retries": settings.retries,
        }
        remote = ray.remote(**options)(function)
        workers = max(1, int(ray.cluster_resources().get("CPU", 1) / settings.cpus))
        context, remaining = ray.put(self.context), iter(tasks)
        queued: dict[Any, tuple] = {}
        while True:
            for task in islice(remaining, QUEUED_PER_WORKER * workers - len(queued)):
                queued[remote.remote(context, *task)] = task
            if not queued:
                return
            (ready, *_), _ = ray.wait(list(queued), num_returns=1)
            task = queued.pop(ready)
            try:
                yield task, ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, InterpError):
                    raise error.cause from error
                yield task, error.cause
            except ray.exceptions.RayError as error:
                yield task, error


def train_task(context: JobContext, cell: TrainCell) -> Counters:
    """Train one network in this process, or find it in the store."""
    state, counters = process_state(context), Counters()
    with counters.clock.measure("train"):
        state.worker.train(cell, state.images, counters, lambda _: None)
    return counters


def work_task(context: JobContext, cell: TrainCell, shard: Shard, explainers: Sequence[str]) -> tuple[Counters, int]:
    """Work on one shard in this process, and return its counters and the number of its cells."""
    state = process_state(context)
    steps: list[str] = []
    return state.worker.work(state.load_network(cell), shard, explainers, steps.append), len(steps)


class WorkerState:
    """What a process keeps between the tasks of a run: components, data, and the last network."""

    def __init__(self, context: JobContext) -> None:
        config = context.config
        keep_freed_memory()
        torch.set_num_threads(config.threads or 1)
        components = RunComponents(config)
        self.key, self.images = context.key, RunImages(components.dataset)
        self.worker = ShardWorker(
            config,
            components,
            Store(config.folder),
            resolve_device(config.device),
            json.loads(context.provenance),
            retry_failed=context.retry_failed,
        )
        self._last: TrainedNetwork | None = None

    def load_network(self, cell: TrainCell) -> TrainedNetwork:
        """Load a network from the store, unless it is that of the last task.

        Raises:
            StoreError: it is not there.
        """
        worker = self.worker
        if self._last is None or self._last.cell.key != cell.key:
            self._last = load_trained(cell, worker.components, worker.store, worker.device)
        if self._last is None:
            raise StoreError(f"no network {cell.key} in {worker.store.folder}: can every machine see this folder?")
        return self._last


_states: dict[str, WorkerState] = {}


def process_state(context: JobContext) -> WorkerState:
    """Return the state of a run in this process; that of another run is dropped."""
    if context.key not in _states:
        _states.clear()
        _states[context.key] = WorkerState(context)
    return _states[context.key]


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the same run with paths that hold in a process with another working directory."""
    output = config.output if is_url(config.output) else Path(config.output).resolve()
    plugins = tuple(str(Path(name).resolve()) if name.endswith(".py") else name for name in config.plugins)
    return config.model_copy(update={"output": output, "plugins": plugins})


def _lost_task(label: str, error: Exception, key: str) -> Counters:
    """Report a task that did not come back. The store has no record of it, so the next run starts it again."""
    message = f"lost on the cluster: {one_line(error, with_type=True)}"
    return Counters(problems=[Problem(where=label, what=message, traceback=str(error), cell=key)])

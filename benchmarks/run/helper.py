"""Train networks in a second process while this one trains another.

Two threads on one small network are far from twice as fast, two processes with one thread each nearly are. So where
several networks have to be trained on a CPU, one of them is trained here and others in a helper, each with half of the
run's threads. The helper reads its data itself and leaves its networks in the store, as a worker of a cluster does.

Limits: one helper, so the longest training is the shortest time. Threads are fewer than without a helper, and weights
are the same within rounding.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch

from benchmarks.config.run import RunConfig
from benchmarks.run.cluster import JobContext
from benchmarks.run.counters import Clock, Counters
from interp_core.datasets.files.workers import initialise_worker

T = TypeVar("T")
Task = Callable[[JobContext, T], Counters]


class TrainingHelper:
    """A process that trains networks beside this one. It is started with its first task.

    Args:
        config: the run.
        provenance: of the run, written into every cell.
        threads: CPU threads of the run, at least two.
        retry_failed: whether networks whose training failed before are tried again.
    """

    def __init__(self, config: RunConfig, provenance: dict[str, Any], threads: int, *, retry_failed: bool) -> None:
        self.threads = threads
        local = config.model_copy(update={"threads": threads // 2})
        self.context = JobContext.of(local, provenance, retry_failed=retry_failed)
        self._pool: ProcessPoolExecutor | None = None

    def train(
        self, items: Sequence[T], task: Task[T], train_here: Callable[[T], None], activity: str
    ) -> Iterator[Counters]:
        """Train several networks, here and in the helper, and yield the counters of those trained in the helper.

        Args:
            items: what `task` and `train_here` take, the longest training last.
            task: trains a network in the helper.
            train_here: trains one in this process: the last one, then others that the helper has not begun.
            activity: that the time of waiting for the helper belongs to.

        Raises:
            InterpError: a setting does not fit; the user has to change it.
        """
        with self._sharing():
            *others, last = items
            futures = [(item, self._submit(task, item)) for item in others]
            train_here(last)
            for item, future in reversed(futures):
                counters = _counters_of(future, activity)
                if counters is None:
                    train_here(item)
                else:
                    yield counters

    def _submit(self, task: Task[T], item: T) -> Future[Counters]:
        if self._pool is None:
            # A forked process could not use autograd after this one has.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, initialise_worker, (os.getpid(),))
        return self._pool.submit(task, self.context, item)

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """Leave half of the threads to the helper inside the block."""
        torch.set_num_threads(self.threads - self.threads // 2)
        try:
            yield
        finally:
            torch.set_num_threads(self.threads)

    def close(self) -> None:
        """Stop the helper, whatever it does."""
        pool, self._pool = self._pool, None
        if pool is not None:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()


def _counters_of(future: Future[Counters], activity: str) -> Counters | None:
    """Wait for a task and return its counters; None where it had not begun or its process died."""
    if future.cancel():
        return None
    begin = time.perf_counter()
    try:
        counters = future.result()
    except BrokenProcessPool:
        return None
    # Its own times passed beside those of this process.
    return replace(counters, clock=Clock({activity: time.perf_counter() - begin}))

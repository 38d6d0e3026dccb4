"""Share work on a CPU between this process and a second one: networks to train, shards to explain and score.

Two threads on one small network are far from twice as fast, two processes with one thread each nearly are. So where
there are several pieces of work, some are done here and others in a helper, each with half of the run's threads. The
helper reads its data itself and leaves its results in the store, as a worker of a cluster does.

Limits: one helper, so the longest piece is the shortest time. Threads are fewer than without a helper, and results are
the same within rounding. What explaining costs is measured beside the other process.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Condition
from typing import Any, Generic, TypeVar

import torch

from benchmarks.config.run import RunConfig
from benchmarks.run.cluster import JobContext
from benchmarks.run.counters import Clock
from interp_core.datasets.files.workers import initialise_worker

GRACE = 5.0  # seconds; a process that is ended by force leaves semaphores behind

T = TypeVar("T")
R = TypeVar("R")
Task = Callable[[JobContext, T], R]


class Helper:
    """A process that works beside this one. It is started with its first task.

    Args:
        config: the run.
        provenance: of the run, written into every cell.
        threads: CPU threads of the run, at least two.
        retry_failed: whether what failed before is tried again.
    """

    def __init__(self, config: RunConfig, provenance: dict[str, Any], threads: int, *, retry_failed: bool) -> None:
        self.threads = threads
        local = config.model_copy(update={"threads": threads // 2})
        self.context = JobContext.of(local, provenance, retry_failed=retry_failed)
        self._pool: ProcessPoolExecutor | None = None

    def share(
        self, items: Sequence[T], task: Task[T, R], work_here: Callable[[T], None], clock: Clock, activity: str
    ) -> Iterator[R]:
        """Work on several items, here and in the helper, and yield the results of those done in the helper.

        Args:
            items: what `task` and `work_here` take, the longest one last.
            task: works on an item in the helper.
            work_here: works on one in this process: the last one, then others that the helper has not begun.
            clock: takes the time of waiting for the helper.
            activity: that this time belongs to.

        Raises:
            InterpError: a setting does not fit; the user has to change it.
        """
        *others, last = items
        with self._sharing():
            pool = self._start()
            queue = HelperQueue(others, lambda item: pool.submit(task, self.context, item))
            here: T | None = last
            while True:
                if here is not None:
                    work_here(here)
                for item, future in queue.take_done():
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        work_here(item)
                here = queue.take_last()
                if here is None and not queue.is_running:
                    break
                if here is None:
                    with clock.measure(activity):
                        queue.wait()

    def _start(self) -> ProcessPoolExecutor:
        """Return the pool of one process, which is started with its first task."""
        if self._pool is None:
            # A forked process could not use autograd after this one has.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, initialise_worker, (os.getpid(),))
        return self._pool

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """Leave half of the threads to the helper inside the block."""
        torch.set_num_threads(self.threads - self.threads // 2)
        try:
            yield
        finally:
            torch.set_num_threads(self.threads)

    def close(self) -> None:
        """Stop the helper: it ends by itself, or is ended where it does not within `GRACE`."""
        pool, self._pool = self._pool, None
        if pool is not None:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.join(GRACE)
                process.terminate()


class HelperQueue(Generic[T, R]):
    """Items that a helper takes from the front, one at a time, while others are taken from the back.

    Args:
        items: none of them is None.
        submit: hands an item to the helper.
    """

    def __init__(self, items: Sequence[T], submit: Callable[[T], Future[R]]) -> None:
        self._remaining, self._submit, self._changed = deque(items), submit, Condition()
        self._running: tuple[T, Future[R]] | None = None
        self._done: list[tuple[T, Future[R]]] = []
        self._start_next()

    @property
    def is_running(self) -> bool:
        """Whether the helper works, or its last result has not been taken."""
        with self._changed:
            return self._running is not None or bool(self._done)

    def take_last(self) -> T | None:
        """Take the last item that the helper has not begun; None where there is none."""
        with self._changed:
            return self._remaining.pop() if self._remaining else None

    def take_done(self) -> list[tuple[T, Future[R]]]:
        """Take the items that the helper is done with."""
        with self._changed:
            done, self._done = self._done, []
            return done

    def wait(self) -> None:
        """Wait until the helper is done with an item."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or self._running is None)

    def _start_next(self) -> None:
        with self._changed:
            if not self._remaining:
                return
            item = self._remaining.popleft()
            try:
                future = self._submit(item)
            except RuntimeError:  # the pool is broken or closed
                self._remaining.append(item)
                return
            self._running = item, future
        future.add_done_callback(self._finish)

    def _finish(self, _: Future[R]) -> None:
        """Hand out the next item; called by the thread that manages the helper."""
        with self._changed:
            if self._running is not None:
                self._done.append(self._running)
            self._running = None
            self._start_next()
            self._changed.notify_all()

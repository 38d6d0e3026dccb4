"""Read items in parallel, in order, with bounded memory.

Only a window of items is in flight. A consumer that stops asking stops the reading.
Workers are processes, since DICOM is decoded under Python's global lock. A decoder that crashes takes one worker with
it and not the run: the pool is replaced and the items in flight are tried once more, those of the broken task one by
one. An item that kills its worker a second time becomes a `Lost`.
Threads are for machines that cannot fork and for few items; they do not survive a crash.

Known limit: a decoder that hangs is waited for.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Literal, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
Kind = Literal["processes", "threads"]

# Enough items that submitting a task costs little compared with reading them.
ITEMS_PER_TASK = 8
# One task is read, one waits, one is consumed.
TASKS_PER_WORKER = 3


@dataclass(frozen=True)
class Lost:
    """An item on which a worker died twice."""

    reason: str = "its decoder crashed, twice"


@dataclass(frozen=True)
class Flight(Generic[T, R]):
    """A task in flight, with the pool it was submitted to."""

    items: list[T]
    future: Future[list[R]]
    pool: Executor


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_fork() -> bool:
    """Return whether workers can be copies of this process, which need not import anything again."""
    return "fork" in multiprocessing.get_all_start_methods() and os.uname().sysname != "Darwin"


class Loader(Generic[T, R]):
    """Reader of items by several workers, ahead of the consumer and in order.

    Args:
        read: function of one item, called in a worker. `results` raises its exceptions.
        workers: number of workers; 0 reads in the caller, on demand.
        kind: "processes" or "threads".
        window: maximum number of items in flight, but at least one task for each worker.
    """

    def __init__(self, read: Callable[[T], R], workers: int, kind: Kind = "processes", window: int = 256) -> None:
        self._pool: Executor | None = None
        self.read, self.workers, self.kind = read, workers, kind
        tasks = max(1, workers * TASKS_PER_WORKER)
        self.items_per_task = min(ITEMS_PER_TASK, max(1, window // tasks))
        self.tasks = min(tasks, max(1, window // self.items_per_task))

    def results(self, items: Iterable[T]) -> Iterator[R | Lost]:
        """Yield the result of reading each item, in order."""
        if self.workers == 0:
            yield from map(self.read, items)
            return
        source = iter(items)
        flights: deque[Flight[T, R]] = deque()
        try:
            while True:
                while len(flights) < self.tasks and (task := list(islice(source, self.items_per_task))):
                    flights.append(self._submit(task))
                if not flights:
                    return
                yield from self._outcome(flights.popleft(), flights)
        finally:
            for flight in flights:
                flight.future.cancel()

    def close(self) -> None:
        """Stop the workers; the next call of `results` starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _outcome(self, flight: Flight[T, R], later_flights: deque[Flight[T, R]]) -> Iterator[R | Lost]:
        """Yield the results of one task. After a crash, submit the later tasks that were lost with it again."""
        if not self._has_crashed(flight):
            yield from flight.future.result()
            return
        for item in flight.items:
            retry = self._submit([item])
            yield Lost() if self._has_crashed(retry) else retry.future.result()[0]
        for position, later in enumerate(later_flights):
            if self._has_crashed(later):
                later_flights[position] = self._submit(later.items)

    def _has_crashed(self, flight: Flight[T, R]) -> bool:
        """Return whether a worker died during a task; discard its pool if so."""
        if not isinstance(flight.future.exception(), BrokenProcessPool):
            return False
        if flight.pool is self._pool:
            self.close()
        return True

    def _submit(self, items: list[T]) -> Flight[T, R]:
        pool = self._start_pool()
        try:
            return Flight(items, pool.submit(_read_all, self.read, items), pool)
        except BrokenProcessPool as error:  # noticed only now; handled like any other crash
            broken: Future[list[R]] = Future()
            broken.set_exception(error)
            return Flight(items, broken, pool)

    def _start_pool(self) -> Executor:
        if self._pool is None:
            if self.kind == "threads":
                self._pool = ThreadPoolExecutor(self.workers)
            else:
                context = multiprocessing.get_context("fork" if can_fork() else "spawn")
                self._pool = ProcessPoolExecutor(self.workers, context, initialise_worker, (os.getpid(),))
        return self._pool


def _read_all(read: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [read(item) for item in items]


def initialise_worker(parent: int) -> None:
    """Ignore SIGINT, exit with the parent, and use one torch thread."""
    # A forked process that asks for OpenMP threads would wait for those of its parent.
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)

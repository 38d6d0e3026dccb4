"""Calls a reader on many items by several workers and gives what came of them in the items' order.

Only a window of items is in flight, so memory is bounded and a consumer that stops asking stops the reading. Workers
are processes, since DICOM is decoded under Python's lock, and a decoder that crashes so takes one worker with it and
not the run: the pool is replaced and the items that were in flight are tried once more, those of the broken task one by
one, so that the item that kills its worker a second time is known and becomes a `Lost`. Threads are for machines that
cannot fork and for few items; they do not survive a crash.

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

# Items of one task: enough that handing it over costs little beside reading.
TASK = 8
# Tasks in flight for each worker: one being read, one waiting, one being consumed.
AHEAD = 3


@dataclass(frozen=True)
class Lost:
    """An item on which a worker died twice."""

    reason: str = "its decoder crashed, twice"


@dataclass(frozen=True)
class Flight(Generic[T, R]):
    """A task in flight, and the pool it is in."""

    task: list[T]
    future: Future[list[R]]
    pool: Executor


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_fork() -> bool:
    """Whether workers can be made as copies of this process, without importing anything again."""
    return "fork" in multiprocessing.get_all_start_methods() and os.uname().sysname != "Darwin"


class Loader(Generic[T, R]):
    """Reads items ahead, in order.

    Args:
        read: called on each item, in a worker; what it raises is raised by `results`.
        workers: how many; 0 to read in the caller, when asked.
        kind: "processes" or "threads".
        window: most items in flight; at least one task for each worker is.
    """

    def __init__(self, read: Callable[[T], R], workers: int, kind: Kind = "processes", window: int = 256) -> None:
        self._pool: Executor | None = None
        self.read, self.workers, self.kind = read, workers, kind
        tasks = max(1, workers * AHEAD)
        self.task = min(TASK, max(1, window // tasks))
        self.tasks = min(tasks, max(1, window // self.task))

    def results(self, items: Iterable[T]) -> Iterator[R | Lost]:
        """What reading each item gave, in order."""
        if self.workers == 0:
            yield from map(self.read, items)
            return
        source = iter(items)
        flying: deque[Flight[T, R]] = deque()
        try:
            while True:
                while len(flying) < self.tasks and (task := list(islice(source, self.task))):
                    flying.append(self._submit(task))
                if not flying:
                    return
                yield from self._outcome(flying.popleft(), flying)
        finally:
            for flight in flying:
                flight.future.cancel()

    def close(self) -> None:
        """End the workers; they are started again when asked for."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _outcome(self, flight: Flight[T, R], behind: deque[Flight[T, R]]) -> Iterator[R | Lost]:
        """Results of one task; after a crash those behind it that were lost with it are handed out anew."""
        if not self._crashed(flight):
            yield from flight.future.result()
            return
        for item in flight.task:
            alone = self._submit([item])
            yield Lost() if self._crashed(alone) else alone.future.result()[0]
        for place, other in enumerate(behind):
            if self._crashed(other):
                behind[place] = self._submit(other.task)

    def _crashed(self, flight: Flight[T, R]) -> bool:
        """Whether a worker died on a task, or beside it; such a pool is given up."""
        if not isinstance(flight.future.exception(), BrokenProcessPool):
            return False
        if flight.pool is self._pool:
            self.close()
        return True

    def _submit(self, task: list[T]) -> Flight[T, R]:
        pool = self._started()
        try:
            return Flight(task, pool.submit(_read_all, self.read, task), pool)
        except BrokenProcessPool as error:  # noticed only now; told like any other crash
            broken: Future[list[R]] = Future()
            broken.set_exception(error)
            return Flight(task, broken, pool)

    def _started(self) -> Executor:
        if self._pool is None:
            if self.kind == "threads":
                self._pool = ThreadPoolExecutor(self.workers)
            else:
                context = multiprocessing.get_context("fork" if can_fork() else "spawn")
                self._pool = ProcessPoolExecutor(self.workers, context, _begin, (os.getpid(),))
        return self._pool


def _read_all(read: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [read(item) for item in items]


def _begin(parent: int) -> None:
    """A worker leaves the keyboard to its parent, does not outlive it, and has one thread."""
    # A copy of a process with threads of OpenMP must not ask for some: it would wait for its parent's.
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)

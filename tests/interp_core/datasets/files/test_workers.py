"""Order, bounded reading ahead, and workers that die: nothing is lost, nothing is given twice, the guilty are named."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from interp_core.datasets.files.workers import ITEMS_PER_TASK, TASKS_PER_WORKER, Loader, Lost, can_fork

pytestmark = pytest.mark.slow

forks = pytest.mark.skipif(not can_fork(), reason="workers cannot be forked here")
Make = Callable[..., Loader[int, int]]


@pytest.fixture
def loader() -> Iterator[Make]:
    loaders: list[Loader[int, int]] = []

    def make(read: Callable[[int], int], workers: int = 2, **options: object) -> Loader[int, int]:
        loaders.append(Loader(read, workers, **options))  # type: ignore[arg-type]
        return loaders[-1]

    yield make
    for each in loaders:
        each.close()


def uneven(item: int) -> int:
    time.sleep(0.002 * (item % 3))
    return item * item


def dies_on(deadly: frozenset[int], item: int) -> int:
    if item in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def dies_once(mark: Path, item: int) -> int:
    if item == 11 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def process_id(_: int) -> int:
    return os.getpid()


def fails_on_five(item: int) -> int:
    return 1 // (item - 5)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", [pytest.param("processes", marks=forks), "threads"])
def test_the_order_is_that_of_the_items_whatever_the_workers(loader: Make, workers: int, kind: str) -> None:
    assert list(loader(uneven, workers, kind=kind).results(range(50))) == [i * i for i in range(50)]


@forks
def test_nothing_gives_nothing_and_workers_serve_again(loader: Make) -> None:
    reader = loader(uneven)
    assert list(reader.results([])) == []
    assert list(reader.results([3])) == [9]
    reader.close()
    assert list(reader.results([4, 2])) == [16, 4]


@forks
@pytest.mark.parametrize("window", [1, 3, 20, 1000])
def test_only_a_window_is_read_ahead(loader: Make, window: int) -> None:
    count = 0

    def source() -> Iterator[int]:
        nonlocal count
        while True:
            count += 1
            yield count

    reader = loader(uneven, 2, window=window)
    results = reader.results(source())
    assert list(islice(results, 5)) == [i * i for i in range(1, 6)]
    assert count <= 5 + max(min(window, 2 * TASKS_PER_WORKER * ITEMS_PER_TASK), 1)
    results.close()  # type: ignore[attr-defined]


@forks
def test_what_reading_raises_is_raised_in_its_place(loader: Make) -> None:
    results = loader(fails_on_five).results(range(20))
    with pytest.raises(ZeroDivisionError):
        list(results)


@forks
def test_an_item_that_kills_its_worker_twice_is_named_and_the_others_are_read(loader: Make) -> None:
    deadly = frozenset({0, 13, 14, 59})
    results = list(loader(partial(dies_on, deadly)).results(range(60)))
    assert results == [Lost() if i in deadly else i for i in range(60)]


@forks
def test_an_item_that_was_in_the_wrong_place_once_is_read_the_second_time(loader: Make, tmp_path: Path) -> None:
    assert list(loader(partial(dies_once, tmp_path / "mark")).results(range(40))) == list(range(40))


@forks
def test_two_streams_of_one_loader_survive_each_other_s_crashes(loader: Make) -> None:
    reader = loader(partial(dies_on, frozenset({5, 105})))
    both = [(a, b) for a, b in zip(reader.results(range(40)), reader.results(range(100, 140)), strict=True)]
    assert both == [(Lost() if i == 5 else i, Lost() if i == 5 else 100 + i) for i in range(40)]


@forks
def test_workers_do_not_outlive_their_parent() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        reader = Loader(process_id, 1)
        os.write(write, str(next(iter(reader.results([0])))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    worker = int(os.read(read, 20))
    for _ in range(60):
        if not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail("the worker is still there")

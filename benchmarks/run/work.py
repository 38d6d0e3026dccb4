"""Work on all shards of a run: in this process, in this process and a helper beside it, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.plan.cells import TrainCell, score_cells, shard_cells
from benchmarks.run.cluster import Cluster, JobContext, process_state
from benchmarks.run.counters import Clock, Counters
from benchmarks.run.helper import Helper
from benchmarks.run.progress import Progress
from benchmarks.run.selection import SelectedImages
from benchmarks.run.shard import ShardWorker
from benchmarks.run.training import TrainedNetwork

# Each network with the names of the explainers that can explain it.
Jobs = Sequence[tuple[TrainedNetwork, Sequence[str]]]

# Side in pixels up to which a helper works on shards, too. Networks on larger images use all threads well, and two
# processes would hold twice their maps.
SMALL_SIDE = 128


@dataclass(frozen=True, eq=False)
class ShardItem:
    """A shard and a network, as a helper is told of them.

    Attributes:
        cell: of the network.
        start: number of the first image of the shard.
        indices: of all selected images, in their split.
        explainers: names of those that can explain the network.
    """

    cell: TrainCell
    start: int
    indices: np.ndarray
    explainers: Sequence[str]


def work_here(
    jobs: Jobs, selected: SelectedImages, worker: ShardWorker, progress: Progress, helper: Helper | None
) -> Iterator[Counters]:
    """Work on all shards in this process and, where images are small, in a helper; yield the counters.

    Args:
        jobs: the networks.
        selected: the images.
        worker: of this process.
        progress: is told of each cell, or of all cells of a shard that the helper is done with.
        helper: works beside this process, if there is one.
    """
    if helper is None or max(selected.split.shape[-2:]) > SMALL_SIDE:
        for trained, names in jobs:
            for shard in selected.shards(trained.statistics):
                yield worker.work(trained, shard, names, progress.step)
        return
    networks = {trained.cell.key: trained for trained, _ in jobs}
    items = [
        ShardItem(trained.cell, start, selected.indices, names) for trained, names in jobs for start in selected.starts
    ]
    missing = [item for item in items if not _is_stored(item, selected, worker)]
    shared = missing if len(missing) > 1 else []
    here = Counters()

    def work_on(item: ShardItem) -> None:
        trained = networks[item.cell.key]
        shard = selected.shard(item.start, trained.statistics)
        here.merge(worker.work(trained, shard, item.explainers, progress.step))

    for item in items:
        if item not in shared:
            work_on(item)
    if shared:
        for counters, steps in helper.share(shared, shard_task, work_on, here.clock, "explain"):
            progress.step("Explaining and scoring, the second process", steps)
            yield replace(counters, clock=Clock())  # its times passed beside those of this process
    yield here


def _is_stored(item: ShardItem, selected: SelectedImages, worker: ShardWorker) -> bool:
    """Return whether the store has every cell of a shard."""
    ids = selected.ids[item.start : item.start + selected.shard_size]
    cells = shard_cells(worker.config, worker.components, item.cell, ids, item.start)
    keys = (
        key
        for cell in cells
        if cell.explainer in item.explainers
        for key in (cell.key, *(score.key for score in score_cells(worker.components, cell, worker.transforms)))
    )
    return all(worker.store.has_cell(key) for key in keys)


def work_on_cluster(cluster: Cluster, jobs: Jobs, selected: SelectedImages, progress: Progress) -> Iterator[Counters]:
    """Work on all shards on a cluster, and yield the counters of each."""
    tasks = ((trained.cell, shard, names) for trained, names in jobs for shard in selected.shards(trained.statistics))
    for counters, steps in cluster.work(tasks):
        progress.step("Explaining and scoring on the cluster", steps)
        yield counters


def shard_task(context: JobContext, item: ShardItem) -> tuple[Counters, int]:
    """Work on one shard in this process, which is a helper; return its counters and the number of its cells."""
    state = process_state(context)
    trained, config = state.load_network(item.cell), context.config
    selected = SelectedImages(state.images.split_to_explain(config.split), item.indices, config.shard)
    steps: list[str] = []
    shard = selected.shard(item.start, trained.statistics)
    return state.worker.work(trained, shard, item.explainers, steps.append), len(steps)

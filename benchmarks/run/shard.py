"""Explain and score the images of one shard on one network: the unit of work that an engine hands out.

Maps are made once for all metrics, and forward passes on perturbed images are shared by all explainers and metrics. A
cell that fails is recorded with its traceback, and the others go on. It is tried again only on request, since most
failures happen again.

`ShardWorker` belongs to a process, `ShardJob` to one network and one shard. `ShardJob.explain_and_score` tells the
story: look up what the store has, make the maps if they are needed, compute the missing scores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from baselines import Explainer
from baselines.support.guard import Cost, count_passes
from benchmarks.config.run import RunConfig
from benchmarks.metrics import Batch
from benchmarks.metrics.base import Explain, is_degenerate
from benchmarks.metrics.map_transforms import MapTransform, build_transforms
from benchmarks.metrics.passes import Passes
from benchmarks.plan.cells import ExplainCell, ScoreCell, TrainCell, score_cells, shard_cells
from benchmarks.plan.components import RunComponents
from benchmarks.run.batching import AdaptiveBatches
from benchmarks.run.counters import Counters
from benchmarks.run.failures import describe_failure
from benchmarks.run.images import RunImages, Statistics, normalised
from benchmarks.run.training import TrainedNetwork, train_or_load
from benchmarks.store.record import Problem
from benchmarks.store.run_folder import Store, from_float16, to_float16
from interp_core.datasets import ImageSet
from interp_core.errors import DivergenceError, InterpError
from interp_core.training import Epoch

ShowStep = Callable[[str], None]


@dataclass(frozen=True)
class Shard:
    """A few of the selected images.

    Attributes:
        start: number of the first one among the selected images.
        split: the images, uint8, with targets, masks and ids.
        statistics: mean and standard deviation per channel that normalise them.
    """

    start: int
    split: ImageSet
    statistics: Statistics

    @cached_property
    def images(self) -> Tensor:
        """Normalised images (N, C, H, W) float32."""
        return normalised(self.split.images, self.statistics)


class ShardWorker:
    """What a process needs to train networks and to work on shards.

    Args:
        config: the run.
        components: its explainers and metrics.
        store: where cells are looked up and written.
        device: where networks live.
        provenance: of the run, written into every cell.
        retry_failed: whether cells that failed before are tried again.
    """

    def __init__(
        self,
        config: RunConfig,
        components: RunComponents,
        store: Store,
        device: str,
        provenance: dict[str, Any],
        *,
        retry_failed: bool = False,
    ) -> None:
        self.config, self.components, self.store, self.device = config, components, store, device
        self.provenance, self.retry_failed = provenance, retry_failed
        self.transforms = build_transforms(config.smoothing, config.grids, config.sharpening)
        self.explain_batches = AdaptiveBatches(config.batch_size)
        self.score_batches = AdaptiveBatches(config.batch_size)

    def train(
        self,
        cell: TrainCell,
        images: RunImages,
        counters: Counters,
        show: Callable[[Epoch], None],
        start: nn.Module | None = None,
    ) -> TrainedNetwork | None:
        """Train a network, or load it from the store.

        Args:
            cell: which network.
            images: of the run.
            counters: take a failure.
            show: called after each epoch.
            start: network whose weights the training starts from; None for those of the cell.

        Returns:
            The network; None if its training fails, or has failed before.

        Raises:
            InterpError: a setting does not fit; the user has to change it before anything is computed.
        """
        failure = self.earlier_failure(cell.key)
        if failure is not None:
            counters.problems.append(failure)
            return None
        try:
            trained = train_or_load(cell, self.components, images, self.store, self.device, show, start)
        except Exception as error:  # whatever training raises must not end the run of other networks
            if isinstance(error, InterpError) and not isinstance(error, DivergenceError):
                raise
            counters.problems.append(self.write_failure(f"{cell.model.name}, seed {cell.seed}", error, cell.key))
            return None
        self.store.forget_failure(cell.key)
        return trained

    def work(
        self,
        trained: TrainedNetwork,
        shard: Shard,
        explainers: Collection[str],
        show_step: ShowStep,
        twin: nn.Module | None = None,
    ) -> Counters:
        """Compute what is missing of one network, one shard and some explainers.

        Args:
            trained: the network.
            shard: the images.
            explainers: names of explainers that can explain the network.
            show_step: called after each cell with a text for people.
            twin: the other network of a pair; None outside the pair test.
        """
        job = ShardJob(self, trained, shard, show_step, twin)
        for cell in shard_cells(self.config, self.components, trained.cell, shard.split.ids, shard.start):
            if cell.explainer in explainers:
                job.explain_and_score(cell)
        job.counters.set_aside += self.store.set_aside
        self.store.set_aside = []
        return job.counters

    def earlier_failure(self, key: str) -> Problem | None:
        """Return how a cell failed before; None if it did not, or failed cells are tried again."""
        return None if self.retry_failed else self.store.read_failure(key)

    def write_failure(self, where: str, error: Exception, key: str) -> Problem:
        """Write to the store that a cell failed, and return the description."""
        problem = describe_failure(where, error, key)
        self.store.write_failure(key, problem)
        return problem


@dataclass(frozen=True)
class StoredState:
    """What the store has of one explainer on one shard.

    Attributes:
        costs: table of the explain cell; None if it has not been computed.
        reused: number of cells that are there.
        missing: keys of scores to compute.
        failures: earlier failures, which are not tried again.
        needs_maps: whether maps are needed, to compute scores, costs or the gallery.
    """

    costs: pd.DataFrame | None
    reused: int
    missing: frozenset[str]
    failures: tuple[Problem, ...]
    needs_maps: bool


class ShardJob:
    """The work on one network and one shard, with the forward passes that its metrics share.

    Attributes:
        counters: counts of what has been done so far.
    """

    def __init__(
        self,
        worker: ShardWorker,
        trained: TrainedNetwork,
        shard: Shard,
        show_step: ShowStep,
        twin: nn.Module | None = None,
    ) -> None:
        self.worker, self.trained, self.shard, self.show_step, self.twin = worker, trained, shard, show_step, twin
        self.store, self.config, self.components = worker.store, worker.config, worker.components
        self.counters = Counters()
        self._passes: dict[tuple[int, int], Passes] = {}

    def explain_and_score(self, cell: ExplainCell) -> None:
        """Compute what is missing of one explainer: its maps if they are needed, and its scores."""
        scores = score_cells(self.components, cell, self.worker.transforms)
        state = self.look_up(cell, scores)
        self._count(cell, state)
        maps = self._load_or_make_maps(cell, state) if state.needs_maps else None
        label = f"{self.trained.cell.model.name}: {cell.explainer}"
        self.show_step(label)
        transformed: dict[MapTransform | None, np.ndarray] = {} if maps is None else {None: maps}
        for score in scores:
            if maps is not None and score.key in state.missing:
                self._score(score, transformed)
            self.show_step(f"{label}, {score.metric}")

    # 1. What the store has

    def look_up(self, cell: ExplainCell, scores: Sequence[ScoreCell]) -> StoredState:
        """Return what the store has of an explainer; nothing is recorded."""
        costs = self.store.read_cell(cell.key)
        stored_keys = {score.key for score in scores if self.store.has_cell(score.key)}
        failures = {
            score.key: failure
            for score in scores
            if score.key not in stored_keys and (failure := self.worker.earlier_failure(score.key)) is not None
        }
        missing = frozenset(score.key for score in scores) - stored_keys - failures.keys()
        # The gallery shows the first images.
        needs_maps = costs is None or bool(missing) or cell.start < self.config.gallery
        maps_failure = self.worker.earlier_failure(cell.key) if needs_maps else None
        return StoredState(
            costs=costs,
            reused=len(stored_keys) + (costs is not None),
            missing=missing,
            failures=(*failures.values(), *([maps_failure] if maps_failure else [])),
            needs_maps=needs_maps and maps_failure is None,
        )

    def _count(self, cell: ExplainCell, state: StoredState) -> None:
        self.counters.reused += state.reused
        self.counters.problems += state.failures
        if state.costs is not None:
            one_score = state.costs[state.costs["metric"] == state.costs["metric"].iloc[0]]
            self._count_maps(cell, one_score["degenerate"].to_numpy())

    def _count_maps(self, cell: ExplainCell, degenerate: np.ndarray) -> None:
        pair = self.trained.cell.model.name, cell.explainer
        self.counters.count_maps(pair, int(degenerate.sum()), len(degenerate))

    # 2. Maps

    def _load_or_make_maps(self, cell: ExplainCell, state: StoredState) -> np.ndarray | None:
        """Return the maps (N, 1, H, W), from the store if they are there; None if the explainer fails."""
        maps = None if state.costs is None else self.store.read_maps(cell.key)
        return self._make_maps(cell, write_costs=state.costs is None) if maps is None else maps

    def _make_maps(self, cell: ExplainCell, *, write_costs: bool) -> np.ndarray | None:
        """Explain the shard and write the maps, if they are to be kept, and their costs."""
        try:
            with self.counters.clock.measure("explain"):
                maps, cost = self._explain(cell)
        except Exception as error:  # whatever a library raises must not end the run
            self._record_failure(f"{self.trained.cell.model.name}, {cell.explainer}", error, cell.key)
            return None
        half = self.config.keep_maps == "float16"
        if half:  # metrics score what is stored
            maps = from_float16(to_float16(maps))
        if cell.start < self.config.gallery or self.config.keep_maps != "none":
            self.store.write_maps(cell.key, maps, half=half)
        if write_costs:
            self._write_costs(cell, maps, cost)
        return maps

    def _explain(self, cell: ExplainCell) -> tuple[np.ndarray, Cost]:
        explainer, split = self.components.explainers[cell.explainer], self.shard.split

        def explain(batch: slice) -> tuple[np.ndarray, Cost]:
            targets, masks = torch.from_numpy(split.targets[batch]), torch.from_numpy(split.masks[batch])
            images, targets, masks = (
                tensor.to(self.worker.device) for tensor in (self.shard.images[batch], targets, masks)
            )
            seed = cell.seed + batch.start
            maps, cost = explainer.measure(self.trained.network, images, targets, masks=masks, seed=seed, many=True)
            return maps.cpu().numpy(), cost

        batches = self.worker.explain_batches.run(explain, len(split))
        return np.concatenate([maps for maps, _ in batches]), total_cost([cost for _, cost in batches])

    def _write_costs(self, cell: ExplainCell, maps: np.ndarray, cost: Cost) -> None:
        count, degenerate = len(maps), is_degenerate(maps)
        per_image = {"seconds": cost.seconds, "forwards": cost.forwards, "backwards": cost.backwards}
        values = {name: np.full(count, value / count) for name, value in per_image.items()}
        self._count_maps(cell, degenerate)
        self._write(cell.key, self._table(cell, cell.explainer, values, degenerate), cell.seed, cost)

    # 3. Scores

    def _score(self, cell: ScoreCell, transformed: dict[MapTransform | None, np.ndarray]) -> None:
        """Score the maps with one metric, and write the scores or the failure.

        Args:
            cell: the score.
            transformed: maps by transform, the plain ones under None; the transform of the cell is added.
        """
        cost, before = Cost(), self._passes_cost()
        try:
            if cell.transform is not None and cell.transform not in transformed:
                transformed[cell.transform] = cell.transform(transformed[None])
            maps = transformed[cell.transform]
            with count_passes(self.trained.network, cost):
                values = self._values(cell, maps)
        except Exception as error:  # as above
            label = f"{self.trained.cell.model.name}, {cell.explainer}, {cell.metric}"
            self._record_failure(label, error, cell.key)
            return
        finally:
            # Shared passes run a faster copy of the network, which `count_passes` does not see.
            forwards, seconds = self._passes_cost()
            cost.forwards = max(cost.forwards, forwards - before[0])
            cost.model_seconds = max(cost.model_seconds, seconds - before[1])
            self.counters.clock.add("metrics_model", cost.model_seconds)
            self.counters.clock.add("metrics_library", cost.seconds - cost.model_seconds)
        table = self._table(cell.explain, cell.explainer, values, is_degenerate(maps))
        self._write(cell.key, table, cell.explain.seed, cost)

    def _values(self, cell: ScoreCell, maps: np.ndarray) -> dict[str, np.ndarray]:
        """Return the values (N,) of a metric, by name of the score."""
        metric, split = self.components.metrics[cell.metric], self.shard.split
        explainer = self.components.explainers[cell.explain.explainer]
        is_half = self.twin is not None and self.config.keep_maps == "float16"  # maps of both networks are alike

        def score(batch: slice) -> dict[str, np.ndarray]:
            seed = cell.explain.seed + batch.start
            return metric(
                Batch(
                    model=self.trained.network,
                    images=self.shard.images[batch].numpy(),
                    targets=split.targets[batch],
                    maps=maps[batch],
                    masks=split.masks[batch],
                    device=self.worker.device,
                    seed=seed,
                    passes=self._shared_passes(batch) if metric.needs_model and self.twin is None else None,
                    explain=explain_again(explainer, seed, self.worker.device, half=is_half),
                    multi_label=self.components.dataset.multi_label,
                    twin=self.twin,
                )
            )

        batches = self.worker.score_batches.run(score, len(split))
        return {name: np.concatenate([values[name] for values in batches]) for name in batches[0]}

    def _shared_passes(self, batch: slice) -> Passes:
        """Return the forward passes on these images, which explainers and metrics share."""
        key = batch.start, batch.stop
        if key not in self._passes:
            # Batches that overlap this one are of a size that did not fit into memory.
            self._passes = {
                (start, stop): passes
                for (start, stop), passes in self._passes.items()
                if stop <= batch.start or start >= batch.stop
            }
            images, targets = self.shard.images[batch].numpy(), self.shard.split.targets[batch]
            multi_label = self.components.dataset.multi_label
            self._passes[key] = Passes(
                self.trained.network, images, targets, self.worker.device, multi_label=multi_label
            )
        return self._passes[key]

    def _passes_cost(self) -> tuple[int, float]:
        """Return images and seconds of all shared passes so far."""
        passes = self._passes.values()
        return sum(entry.forwards for entry in passes), sum(entry.seconds for entry in passes)

    # 4. Writing

    def _table(
        self, cell: ExplainCell, explainer: str, values: dict[str, np.ndarray], degenerate: np.ndarray
    ) -> pd.DataFrame:
        names = {"model": cell.train.model.name, "explainer": explainer, "seed": cell.train.seed}
        columns = {"image_id": self.shard.split.ids, "degenerate": degenerate}
        tables = [
            pd.DataFrame({**names, **columns, "metric": name, "value": column.astype(np.float64)})
            for name, column in values.items()
        ]
        return pd.concat(tables, ignore_index=True)

    def _write(self, key: str, table: pd.DataFrame, seed: int, cost: Cost) -> None:
        provenance = {
            "key": key,
            **self.worker.provenance,
            "seed": seed,
            "device": self.worker.device,
            "seconds": cost.seconds,
            "forwards": cost.forwards,
            "backwards": cost.backwards,
            "peak_bytes": cost.peak_bytes,
        }
        self.store.write_cell(key, table, provenance)
        self.store.forget_failure(key)
        self.counters.computed += 1

    def _record_failure(self, where: str, error: Exception, key: str) -> None:
        self.counters.problems.append(self.worker.write_failure(where, error, key))


def explain_again(explainer: Explainer, seed: int, device: str, *, half: bool = False) -> Explain:
    """Return the explainer as a function that metrics call on other images or networks.

    Args:
        explainer: the explainer whose maps are scored.
        seed: of its random draws, the same as for those maps.
        device: where networks live.
        half: whether to round maps as stored ones are.
    """

    def explain(network: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        image_batch = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).to(device)
        target_batch = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
        maps = explainer(network, image_batch, target_batch, seed=seed).cpu().numpy()
        return from_float16(to_float16(maps)) if half else maps

    return explain


def total_cost(costs: Sequence[Cost]) -> Cost:
    """Return the cost of several calls together; the peak of memory is that of the largest."""
    peaks = [cost.peak_bytes for cost in costs if cost.peak_bytes is not None]
    return Cost(
        images=sum(cost.images for cost in costs),
        forwards=sum(cost.forwards for cost in costs),
        backwards=sum(cost.backwards for cost in costs),
        seconds=sum(cost.seconds for cost in costs),
        model_seconds=sum(cost.model_seconds for cost in costs),
        peak_bytes=max(peaks, default=None),
    )

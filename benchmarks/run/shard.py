"""Explains and scores the images of one shard on one network: the unit that an engine hands out.

Explanations are made once and shared by all metrics; forward passes on perturbed images are shared by all explainers
and metrics. Only the images of the shard are ever floating point. A cell that fails is recorded with its traceback, the
rest goes on; it is tried again only when asked for, since what failed once most often fails again.
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
from interp_core.errors import InterpError
from interp_core.training import Epoch

Step = Callable[[str], None]


@dataclass(frozen=True)
class Shard:
    """A few of the chosen images.

    Attributes:
        start: number of the first among the chosen ones.
        split: the images, uint8, with targets, masks and ids.
        statistics: mean and standard deviation per channel that normalise them.
    """

    start: int
    split: ImageSet
    statistics: Statistics

    @cached_property
    def images(self) -> Tensor:
        """(N, C, H, W) float32, normalised."""
        return normalised(self.split.images, self.statistics)


class ShardWorker:
    """What one process needs to work on shards.

    Args:
        config: the run.
        parts: its explainers and metrics.
        store: where cells are found and written.
        device: where networks live.
        provenance: what every cell says of the run it was made in.
        retry_failed: whether cells that failed before are tried again.
    """

    def __init__(
        self,
        config: RunConfig,
        parts: RunComponents,
        store: Store,
        device: str,
        provenance: dict[str, Any],
        *,
        retry_failed: bool = False,
    ) -> None:
        self.config, self.parts, self.store, self.device = config, parts, store, device
        self.provenance, self.retry_failed = provenance, retry_failed
        self.transforms = build_transforms(config.smoothing, config.grids, config.sharpening)
        self.explaining, self.scoring = AdaptiveBatches(config.batch_size), AdaptiveBatches(config.batch_size)

    def train(
        self, cell: TrainCell, data: RunImages, counters: Counters, show: Callable[[Epoch], None]
    ) -> TrainedNetwork | None:
        """The network of a cell, trained if it is not in the store; None if its training fails, or has failed before.

        Raises:
            InterpError: a setting does not fit, which is the user's to mend before anything is computed.
        """
        before = None if self.retry_failed else self.store.failure(cell.key)
        if before is not None:
            counters.problems.append(before)
            return None
        try:
            item = train_or_load(cell, self.parts, data, self.store, self.device, show)
        except InterpError:
            raise
        except Exception as error:  # whatever training raises must not end the run of other networks
            counters.problems.append(self.failed(f"{cell.model.name}, seed {cell.seed}", error, cell.key))
            return None
        self.store.forget_failure(cell.key)
        return item

    def failed(self, where: str, error: Exception, key: str) -> Problem:
        """Record in the store that a cell failed; what is recorded."""
        entry = describe_failure(where, error, key)
        self.store.write_failure(key, entry)
        return entry

    def work(self, item: TrainedNetwork, shard: Shard, names: Collection[str], step: Step) -> Counters:
        """Compute what is missing of one network, one shard and the explainers `names`."""
        job = ShardJob(self, item, shard, step)
        for cell in shard_cells(self.config, self.parts, item.cell, shard.split.ids, shard.start):
            if cell.explainer in names:
                job.do(cell)
        job.counters.set_aside += self.store.set_aside
        self.store.set_aside = []
        return job.counters


class ShardJob:
    """One network and one shard, with the forward passes that its metrics share."""

    def __init__(self, worker: ShardWorker, item: TrainedNetwork, shard: Shard, step: Step) -> None:
        self.worker, self.item, self.shard, self.step = worker, item, shard, step
        self.store, self.config = worker.store, worker.config
        self.counters = Counters()
        self._passes: dict[tuple[int, int], Passes] = {}

    def do(self, cell: ExplainCell) -> None:
        """One explainer: its maps if they are needed, and the scores that are missing."""
        scores = score_cells(self.worker.parts, cell, self.worker.transforms)
        where = f"{self.item.cell.model.name}: {cell.explainer}"
        costs = self.store.cell(cell.key)
        missing = {score.key for score in scores if not self._is_settled(score.key)}
        self.counters.reused += costs is not None
        # The gallery shows the first images.
        wanted = costs is None or missing or cell.start < self.config.gallery
        maps = self._maps(cell, costs) if wanted and not self._has_failed(cell.key) else None
        self.step(where)
        if costs is not None:
            first = costs[costs["metric"] == costs["metric"].iloc[0]]["degenerate"]
            self.counters.count_maps((self.item.cell.model.name, cell.explainer), int(first.sum()), len(first))
        changed: dict[MapTransform | None, np.ndarray] = {} if maps is None else {None: maps}
        for score in scores:
            if score.key in missing and maps is not None:
                self._score(score, changed)
            self.step(f"{where}, {score.metric}")

    def _is_settled(self, key: str) -> bool:
        """Whether a score is there, or known to fail."""
        if self.store.has_cell(key):
            self.counters.reused += 1
            return True
        return self._has_failed(key)

    def _has_failed(self, key: str) -> bool:
        """Whether a cell is known to fail; it is listed then."""
        before = None if self.worker.retry_failed else self.store.failure(key)
        if before is not None:
            self.counters.problems.append(before)
        return before is not None

    def _maps(self, cell: ExplainCell, costs: pd.DataFrame | None) -> np.ndarray | None:
        """The explanations, from the store if they are there; None if they cannot be made."""
        maps = self.store.read_maps(cell.key) if costs is not None else None
        if maps is not None:
            return maps
        half, shown = self.config.keep_maps == "float16", cell.start < self.config.gallery
        try:
            with self.counters.clock.measure("explain"):
                maps, cost = self._explain(cell)
        except Exception as error:  # whatever a library raises must not end the run
            self._fail(f"{self.item.cell.model.name}, {cell.explainer}", error, cell.key)
            return None
        if half:
            maps = from_float16(to_float16(maps))
        if shown or self.config.keep_maps != "none":
            self.store.write_maps(cell.key, maps, half=half)
        if costs is None:
            self._write_costs(cell, maps, cost)
        return maps

    def _explain(self, cell: ExplainCell) -> tuple[np.ndarray, Cost]:
        explainer, split = self.worker.parts.explainers[cell.explainer], self.shard.split

        def call(piece: slice) -> tuple[np.ndarray, Cost]:
            images, targets, masks = (
                tensor.to(self.worker.device)
                for tensor in (
                    self.shard.images[piece],
                    torch.from_numpy(split.targets[piece]),
                    torch.from_numpy(split.masks[piece]),
                )
            )
            seed = cell.seed + piece.start
            maps, cost = explainer.measure(self.item.network, images, targets, masks=masks, seed=seed)
            return maps.cpu().numpy(), cost

        made = self.worker.explaining.run(call, len(split))
        return np.concatenate([maps for maps, _ in made]), total_cost([cost for _, cost in made])

    def _write_costs(self, cell: ExplainCell, maps: np.ndarray, cost: Cost) -> None:
        n, bad = len(maps), is_degenerate(maps)
        spent = {"seconds": cost.seconds / n, "forwards": cost.forwards / n, "backwards": cost.backwards / n}
        table = self._table(cell, cell.explainer, {name: np.full(n, value) for name, value in spent.items()}, bad)
        self.counters.count_maps((self.item.cell.model.name, cell.explainer), int(bad.sum()), n)
        self._write(cell.key, table, cell.seed, cost)

    def _score(self, cell: ScoreCell, known: dict[MapTransform | None, np.ndarray]) -> None:
        """One metric on the maps, transformed where the cell says so; `known` holds them by transform."""
        cost, before = Cost(), self._spent()
        try:
            if cell.transform is not None and cell.transform not in known:
                known[cell.transform] = cell.transform(known[None])
            maps = known[cell.transform]
            with count_passes(self.item.network, cost):
                values = self._values(cell, maps)
        except Exception as error:  # as above
            self._fail(f"{self.item.cell.model.name}, {cell.explainer}, {cell.metric}", error, cell.key)
            return
        finally:
            # Shared passes run a quicker copy of the network, which `count_passes` does not see.
            forwards, seconds = self._spent()
            cost.forwards = max(cost.forwards, forwards - before[0])
            cost.model_seconds = max(cost.model_seconds, seconds - before[1])
            self.counters.clock.add("metrics_model", cost.model_seconds)
            self.counters.clock.add("metrics_library", cost.seconds - cost.model_seconds)
        table = self._table(cell.explain, cell.explainer, values, is_degenerate(maps))
        self._write(cell.key, table, cell.explain.seed, cost)

    def _values(self, cell: ScoreCell, maps: np.ndarray) -> dict[str, np.ndarray]:
        metric, split = self.worker.parts.metrics[cell.metric], self.shard.split
        explainer = self.worker.parts.explainers[cell.explain.explainer]

        def call(piece: slice) -> dict[str, np.ndarray]:
            seed = cell.explain.seed + piece.start
            batch = Batch(
                model=self.item.network,
                images=self.shard.images[piece].numpy(),
                targets=split.targets[piece],
                maps=maps[piece],
                masks=split.masks[piece],
                device=self.worker.device,
                seed=seed,
                passes=self._shared(piece) if metric.needs_model else None,
                explain=explain_again(explainer, seed, self.worker.device),
                multi_label=self.worker.parts.dataset.multi_label,
            )
            return metric(batch)

        made = self.worker.scoring.run(call, len(split))
        return {name: np.concatenate([values[name] for values in made]) for name in made[0]}

    def _shared(self, piece: slice) -> Passes:
        """The forward passes of these images, made by whoever asks first."""
        key = piece.start, piece.stop
        if key not in self._passes:
            # Pieces of another size did not fit.
            self._passes = {(a, b): kept for (a, b), kept in self._passes.items() if b <= key[0] or a >= key[1]}
            images, targets = self.shard.images[piece].numpy(), self.shard.split.targets[piece]
            several = self.worker.parts.dataset.multi_label
            self._passes[key] = Passes(self.item.network, images, targets, self.worker.device, multi_label=several)
        return self._passes[key]

    def _spent(self) -> tuple[int, float]:
        """Images and seconds of all shared passes so far."""
        kept = self._passes.values()
        return sum(passes.forwards for passes in kept), sum(passes.seconds for passes in kept)

    def _table(self, cell: ExplainCell, explainer: str, values: dict[str, np.ndarray], bad: np.ndarray) -> pd.DataFrame:
        fixed = {"model": cell.train.model.name, "explainer": explainer, "seed": cell.train.seed}
        columns = {"image_id": self.shard.split.ids, "degenerate": bad}
        tables = [
            pd.DataFrame({**fixed, **columns, "metric": name, "value": column.astype(np.float64)})
            for name, column in values.items()
        ]
        return pd.concat(tables, ignore_index=True)

    def _write(self, key: str, table: pd.DataFrame, seed: int, cost: Cost) -> None:
        made = {
            "key": key,
            **self.worker.provenance,
            "seed": seed,
            "device": self.worker.device,
            "seconds": cost.seconds,
            "forwards": cost.forwards,
            "backwards": cost.backwards,
            "peak_bytes": cost.peak_bytes,
        }
        self.store.write_cell(key, table, made)
        self.store.forget_failure(key)
        self.counters.computed += 1

    def _fail(self, where: str, error: Exception, key: str) -> None:
        self.counters.problems.append(self.worker.failed(where, error, key))


def explain_again(explainer: Explainer, seed: int, device: str) -> Explain:
    """The explainer as metrics call it: on other images or networks, with the seed of the maps they judge.

    Args:
        explainer: whose maps are judged.
        seed: of the explainer's random draws.
        device: where networks live.
    """

    def explain(network: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).to(device)
        chosen = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
        return explainer(network, batch, chosen, seed=seed).cpu().numpy()

    return explain


def total_cost(costs: Sequence[Cost]) -> Cost:
    """One cost of several calls."""
    peaks = [cost.peak_bytes for cost in costs if cost.peak_bytes is not None]
    return Cost(
        images=sum(cost.images for cost in costs),
        forwards=sum(cost.forwards for cost in costs),
        backwards=sum(cost.backwards for cost in costs),
        seconds=sum(cost.seconds for cost in costs),
        model_seconds=sum(cost.model_seconds for cost in costs),
        peak_bytes=max(peaks, default=None),
    )

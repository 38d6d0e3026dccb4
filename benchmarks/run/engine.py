"""Runs a plan: train, choose images, explain and score shard by shard; what is in the store is not computed again.

The order is network, shard, explainer, metric: all that is shared by the explainers and metrics of a shard is made
once, and only the images of a shard are in memory as numbers (`benchmarks.run.shard`). Shards are handed out to
this process
or, with `engine: ray`, to a cluster (`benchmarks.run.cluster`).

The clock is split into data, training, explaining, forward passes inside metrics, what metrics do around them, and
the rest, which is the harness' own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from benchmarks.config.device import require_ray, resolve_device
from benchmarks.config.errors import ConfigError
from benchmarks.config.run import RunConfig, without_secrets
from benchmarks.metrics import Batch
from benchmarks.metrics.map_transforms import build_transforms
from benchmarks.plan.cells import ExplainCell, TrainCell, explain_cells, score_cells, shard_cells, train_cells
from benchmarks.plan.components import RunComponents
from benchmarks.run.audit import Sample, audit
from benchmarks.run.cluster import Cluster
from benchmarks.run.counters import Counters
from benchmarks.run.failures import Problem, merge_equal_problems, unreadable_problem
from benchmarks.run.gallery import build_gallery
from benchmarks.run.images import PLAIN, RunImages
from benchmarks.run.networks import NormalisedNetwork
from benchmarks.run.progress import Progress, Silent
from benchmarks.run.record import describe, describe_model, with_unique_titles
from benchmarks.run.selection import SelectedImages, correct_everywhere
from benchmarks.run.shard import Shard, ShardWorker, explain_again
from benchmarks.run.training import Trained, load
from benchmarks.statistics.analysis import images_to_keep
from benchmarks.store.cell_files import SCHEMA
from benchmarks.store.gallery import Pair
from benchmarks.store.locations import Location
from benchmarks.store.provenance import VERSION, git_state, system, versions
from benchmarks.store.run_folder import Store, read_run
from interp_core.errors import one_line
from interp_core.training import Epoch

Jobs = Sequence[tuple[Trained, Sequence[str]]]


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        folder: where it lies.
        problems: what went wrong or was left out, as in run.json.
        computed: cells computed.
        reused: cells found in the store.
        degenerate: maps that say nothing, as in run.json.
    """

    folder: Location
    problems: list[Problem]
    computed: int
    reused: int
    degenerate: list[dict[str, Any]]

    @property
    def failed(self) -> int:
        """Cells that failed, now or before."""
        return sum(entry.get("cells", 0) for entry in self.problems)


class Engine:
    """One run of one configuration.

    Args:
        config: what to run.
        progress: who watches.
        overrides: what the command line changed in the configuration's file, for run.json.
        fresh: delete the stored results when `run` starts, and compute everything again.
        retry_failed: try cells again that failed before.

    Raises:
        InterpError: a name, parameter, device or the output folder is not usable; nothing has been computed then.
    """

    def __init__(
        self,
        config: RunConfig,
        progress: Progress | None = None,
        *,
        overrides: dict[str, Any] | None = None,
        fresh: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self.config, self.progress = config, progress or Silent()
        self.parts = RunComponents(config)
        if config.engine == "ray":
            require_ray()
        # A cluster's GPUs need not be on the machine that hands out the work.
        self.device = resolve_device("auto" if config.engine == "ray" else config.device)
        self.threads = config.threads or (1 if config.engine == "ray" else torch.get_num_threads())
        self.store, self.fresh = Store(config.folder), fresh
        self.data, self.counters = RunImages(self.parts.dataset), Counters()
        self.problems: list[Problem] = []
        self.meta = self._first_meta(overrides or {})
        made = {name: self.meta[name] for name in ("versions", "git")}
        made |= {"config": self.meta["config_hash"], "version": VERSION}
        self.worker = ShardWorker(config, self.parts, self.store, self.device, made, retry_failed=retry_failed)

    def run(self) -> Outcome:
        """Compute what is missing and write the store; the report is made from it by `benchmarks.report`."""
        begin = time.perf_counter()
        if self.fresh:
            self.store.clear()
        torch.set_num_threads(self.threads)
        if self.config.engine == "ray":
            made = self.worker.provenance
            with Cluster(self.config, made, retry_failed=self.worker.retry_failed) as cluster:
                self._run(cluster)
        else:
            self._run(None)
        self._finish(time.perf_counter() - begin)
        found = self.meta["degenerate"]
        return Outcome(self.store.folder, self.problems, self.counters.computed, self.counters.reused, found)

    def _run(self, cluster: Cluster | None) -> None:
        trained = self._trained(cluster)
        self.data.forget("train")
        self.data.forget("val")
        chosen = self._chosen(trained)
        jobs = [(item, self._valid(item)) for item in trained]
        self._write_meta(trained, chosen, jobs)
        if cluster:
            self._work_there(cluster, jobs, chosen)
        for item, names in jobs:
            if not cluster:
                self._work_here(item, names, chosen)
            self.meta["audit"] += self._audit(item, names, chosen)
        self._write_gallery(jobs, chosen)

    def _trained(self, cluster: Cluster | None) -> list[Trained]:
        cells = train_cells(self.config, self.parts)
        if cluster:
            self._train_there(cluster, cells)
            found = [load(cell, self.parts, self.store, self.device) for cell in cells]
        else:
            found = [self._train_here(cell) for cell in cells]
        trained = [item for item in found if item is not None]
        if not trained:
            raise ConfigError(f"no network could be trained: {self.counters.problems[0]['what']}")
        return trained

    def _train_here(self, cell: TrainCell) -> Trained | None:
        name = f"{cell.model.name}, seed {cell.seed}"
        epochs = sum(stage.recipe.epochs for stage in self.parts.training_stages[cell.model.name])
        self.progress.begin(f"Training {name}", epochs)

        def show(epoch: Epoch) -> None:
            self.progress.step(f"Training {name}: validation accuracy {epoch.val_accuracy:.3f}")

        data_before, begin = self.data.seconds, time.perf_counter()
        item = self.worker.train(cell, self.data, self.counters, show)
        self.counters.clock.add("train", time.perf_counter() - begin - (self.data.seconds - data_before))
        return item

    def _train_there(self, cluster: Cluster, cells: Sequence[TrainCell]) -> None:
        self.progress.begin("Training on the cluster", len(cells))
        for counters in cluster.train(cells):
            self.counters.merge(counters)
            self.progress.step("Training on the cluster")

    def _chosen(self, trained: list[Trained]) -> SelectedImages:
        split = self.data.explained(self.config.split)
        side = min(split.shape[-2:])
        if max(self.config.grids, default=0) > side:
            raise ConfigError(f"grids: {max(self.config.grids)} cells a side do not fit images of {side} pixels")
        with self.counters.clock.measure("select"):
            networks = [NormalisedNetwork(item.network, item.statistics) for item in trained]
            images, several = self.data.batches(split, PLAIN), self.parts.dataset.multi_label
            indices = correct_everywhere(networks, images, self.config.images, multi_label=several)
        return SelectedImages(split, indices, self.config.shard)

    def _valid(self, item: Trained) -> tuple[str, ...]:
        """Explainers that hold on this network; what speaks against the others is told, and doubts of these are."""
        names = self.parts.explainers if item.cell.model.explained else ()
        return tuple(name for name in names if self._is_valid(item, name))

    def _is_valid(self, item: Trained, name: str) -> bool:
        explainer, model = self.parts.explainers[name], item.cell.model.name
        try:
            reason = explainer.refusal(item.network)
            caveat = explainer.caveat(item.network) if reason is None else None
        except Exception as error:  # a probe of the network may fail in ways of its own
            reason, caveat = one_line(error, with_type=True), None
        if reason is not None and explainer.kind != "intrinsic":
            self.counters.problems.append({"where": f"{model}, {name}", "what": f"left out: {reason}"})
        if caveat is not None:
            (entry,) = (info for info in self.meta["explainers"] if info["name"] == name)
            entry["caveats"].setdefault(model, caveat)
        return reason is None

    def _work_here(self, item: Trained, names: Sequence[str], chosen: SelectedImages) -> None:
        for shard in chosen.shards(item.statistics):
            self.counters.merge(self.worker.work(item, shard, names, self.progress.step))

    def _work_there(self, cluster: Cluster, jobs: Jobs, chosen: SelectedImages) -> None:
        work = ((item.cell, shard, names) for item, names in jobs for shard in chosen.shards(item.statistics))
        for counters, steps in cluster.work(work):
            self.counters.merge(counters)
            self.progress.step("Explaining and scoring on the cluster", steps)

    def _audit(self, item: Trained, names: Sequence[str], chosen: SelectedImages) -> list[dict[str, Any]]:
        """Scores of a sample of the first shard held against Quantus, for run.json; called once a network is scored."""
        with self.counters.clock.measure("audit"):
            shard, seed = chosen.shard(0, item.statistics), item.cell.seed
            cells = shard_cells(self.config, self.parts, item.cell, shard.split.ids, shard.start)
            found = ((cell, self.store.read_maps(cell.key)) for cell in cells if cell.explainer in names)
            samples = [self._sample(item, cell, shard, maps) for cell, maps in found if maps is not None]
            return audit(self.parts.metrics, samples, seed)

    def _sample(self, item: Trained, cell: ExplainCell, shard: Shard, maps: np.ndarray) -> Sample:
        split, explainer = shard.split, self.parts.explainers[cell.explainer]
        batch = Batch(
            model=item.network,
            images=shard.images.numpy(),
            targets=split.targets,
            maps=maps,
            masks=split.masks,
            device=self.device,
            seed=cell.seed,
            explain=explain_again(explainer, cell.seed, self.device),
            multi_label=self.parts.dataset.multi_label,
        )
        return Sample(item.cell.model.name, cell.explainer, batch)

    def _cells(self, jobs: Jobs, chosen: SelectedImages) -> Iterator[list[str]]:
        """Keys of every explain cell and its score cells."""
        for item, names in jobs:
            for cell in explain_cells(self.config, self.parts, [item.cell], chosen.ids):
                if cell.explainer in names:
                    yield [cell.key, *(score.key for score in score_cells(self.parts, cell, self.worker.transforms))]

    def _write_gallery(self, jobs: Jobs, chosen: SelectedImages) -> None:
        first = {item.cell.model.name: item.cell for item, _ in reversed(jobs)}
        keys: dict[tuple[str, str, int], str] = {}
        for cell in explain_cells(self.config, self.parts, list(first.values()), chosen.ids):
            keys[cell.train.model.name, cell.explainer, cell.start] = cell.key
        self.store.write_meta(self.meta)
        ranked = {str(info["name"]) for info in self.meta["metrics"] if info["ranked"]}
        wanted = images_to_keep(read_run(self.store.folder, only=ranked))
        pairs = list(dict.fromkeys((item.cell.model.name, name) for item, names in jobs for name in names))
        classes, count = self.parts.dataset.classes, self.config.gallery

        def maps_of(pair: Pair, start: int) -> np.ndarray | None:
            return self.store.read_maps(keys[(*pair, start)])

        self.store.write_gallery(build_gallery(chosen, classes, pairs, wanted, count, maps_of))

    def _first_meta(self, overrides: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "name": self.config.name,
            "started": _now(),
            "finished": None,
            "config": self.config.to_record(),
            "config_hash": self.config.hash(),
            "overrides": without_secrets(overrides),
            "versions": versions(),
            **system(),
            "device": torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device,
            "threads": self.threads,
            "git": git_state(),
            "seeds": list(self.config.seeds),
            **describe(self.parts, build_transforms(self.config.smoothing, self.config.grids, self.config.sharpening)),
            "audit": [],
        }

    def _write_meta(self, trained: list[Trained], chosen: SelectedImages, jobs: Jobs) -> None:
        split = chosen.split
        size = {"image_size": split.shape[-1], "split": self.config.split}
        size |= {"considered": len(split), "evaluated": len(chosen)}
        self.meta["dataset"] |= {**size, "areas": chosen.areas()}
        self.meta["dataset"]["unreadable"] = self._unreadable(trained)
        self.meta["models"] = with_unique_titles([describe_model(item, split.shape) for item in trained])
        self.meta["cells"] = [key for keys in self._cells(jobs, chosen) for key in keys]
        self.store.write_meta(self.meta)
        self.progress.begin("Explaining and scoring", len(self.meta["cells"]))

    def _unreadable(self, trained: list[Trained]) -> dict[str, dict[str, str]]:
        """Ids of images that could not be read, with the reason, by split, those met in training included."""
        found: dict[str, dict[str, str]] = {}
        for lost in (*(item.facts["unreadable"] for item in trained), self.data.unreadable):
            for split, reasons in lost.items():
                found[split] = found.get(split, {}) | reasons
        self.counters.problems += [unreadable_problem(split, reasons) for split, reasons in found.items()]
        if kinds := self.meta["dataset"]["findings"]:
            counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
            what = f"{counts}; interp-worker data check lists them"
            self.counters.problems.append({"where": "data set, annotations", "what": what})
        return found

    def _finish(self, total: float) -> None:
        times = {"total": total, **self.counters.clock.seconds}
        if self.config.engine == "local":  # seconds of several workers pass at once
            times["harness"] = total - sum(self.counters.clock.seconds.values())
        times["data"] = self.data.seconds
        self.meta["times"] = {name: round(value, 2) for name, value in times.items()}
        set_aside = [*self.counters.set_aside, *self.store.set_aside]
        self.problems = merge_equal_problems(self.counters.problems) + [
            {"where": "store", "what": what} for what in set_aside
        ]
        self.meta |= {"finished": _now(), "problems": self.problems, "degenerate": self.counters.described()}
        self.meta["computed"], self.meta["reused"] = self.counters.computed, self.counters.reused
        self.store.write_meta(self.meta)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

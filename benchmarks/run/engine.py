"""Run a plan: train, select images, explain and score; results that are stored already are not computed again.

The order is network, shard, explainer, metric. Explainers and metrics of a shard share its images and forward passes,
and only the images of one shard are in memory as floating point numbers (`benchmarks.run.shard`). Shards are worked on
in this process or, with `engine: ray`, on a cluster (`benchmarks.run.cluster`).

The record of the run says how its time was spent: on data, training, selecting images, explaining, forward passes of
metrics, the rest of the metrics, the audit, and the harness itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from baselines.support.trial import remember_shape
from benchmarks.config.device import require_ray, resolve_device
from benchmarks.config.errors import ConfigError
from benchmarks.config.run import RunConfig
from benchmarks.metrics import Batch
from benchmarks.plan.cells import ExplainCell, TrainCell, explain_cells, score_cells, shard_cells, train_cells
from benchmarks.plan.components import RunComponents
from benchmarks.plan.pairs import scored_pairs, shortened_stages
from benchmarks.plan.stages import training_effort
from benchmarks.run.applicability import Applicability, applicability
from benchmarks.run.audit import Sample, audit
from benchmarks.run.cluster import Cluster, train_task
from benchmarks.run.counters import Clock, Counters
from benchmarks.run.failures import annotation_problem, merge_equal_problems, unreadable_problem
from benchmarks.run.gallery import build_gallery
from benchmarks.run.helper import Helper
from benchmarks.run.images import PLAIN, RunImages
from benchmarks.run.networks import NormalisedNetwork
from benchmarks.run.pairs import TrainedPair, prepare_pair
from benchmarks.run.preconditions import check_classes, idle_plugins, unscored_metrics
from benchmarks.run.progress import Progress, Silent
from benchmarks.run.record import describe_models, new_record, utc_now
from benchmarks.run.selection import SelectedImages, correct_everywhere
from benchmarks.run.shard import Shard, ShardWorker, explain_again
from benchmarks.run.training import TrainedNetwork, is_stored, load_trained
from benchmarks.run.work import Jobs, work_here, work_on_cluster
from benchmarks.statistics.analysis import images_to_keep
from benchmarks.store.gallery import Pair
from benchmarks.store.locations import Location
from benchmarks.store.provenance import VERSION
from benchmarks.store.record import AuditRecord, DegenerateRecord, Problem
from benchmarks.store.run_folder import Store, read_run
from interp_core.errors import FailedRunError
from interp_core.training import Epoch


@dataclass
class Outcome:
    """Summary of a run that has ended.

    Attributes:
        folder: the run's folder.
        problems: what went wrong or was left out, as in run.json.
        computed: number of cells computed.
        reused: number of cells found in the store.
        degenerate: numbers of maps that are constant or not finite, as in run.json.
    """

    folder: Location
    problems: list[Problem]
    computed: int
    reused: int
    degenerate: list[DegenerateRecord]

    @property
    def failed(self) -> int:
        """Number of cells that failed, in this run or in an earlier one."""
        return sum(problem.cells for problem in self.problems)


class Engine:
    """Executor of one configuration. Building one checks the settings; only `run` writes or deletes results.

    Args:
        config: what to run.
        progress: shows how far the run is.
        overrides: what the command line changed in the configuration file, for run.json.
        fresh: delete the stored results when `run` starts, and compute everything again.
        retry_failed: try cells again that failed before.
        has_helper: work in two processes, see `benchmarks.run.helper`; on a CPU with at least two threads. The program
            must be one that can be imported, see `multiprocessing`.

    Attributes:
        record: content of run.json, filled in as the run goes on.

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
        has_helper: bool = False,
    ) -> None:
        self.config, self.progress = config, progress or Silent()
        self.components = RunComponents(config)
        self.pairs = scored_pairs(config, self.components)
        if config.engine == "ray":
            require_ray()
        # A cluster's GPUs need not be on the machine that hands out the work.
        self.device = resolve_device("auto" if config.engine == "ray" else config.device)
        self.threads = config.threads or (1 if config.engine == "ray" else torch.get_num_threads())
        self.store, self.fresh = Store(config.folder), fresh
        self.images, self.counters = RunImages(self.components.dataset), Counters()
        self.record = new_record(
            config, self.components, device=self.device, threads=self.threads, overrides=overrides or {}
        )
        content = self.record.to_dict()
        provenance = {"versions": content["versions"], "git": content["git"], "config": self.record.config_hash}
        self.worker = ShardWorker(
            config,
            self.components,
            self.store,
            self.device,
            provenance | {"version": VERSION},
            retry_failed=retry_failed,
        )
        self.helper: Helper | None = None
        if has_helper and config.engine == "local" and self.device == "cpu" and self.threads > 1:
            self.helper = Helper(config, self.worker.provenance, self.threads, retry_failed=retry_failed)

    def run(self) -> Outcome:
        """Compute what is missing and write the store, from which `benchmarks.report` makes the report.

        Raises:
            InterpError: no network could be trained, or a setting does not fit the data.
        """
        begin = time.perf_counter()
        if self.fresh:
            self.store.clear()
        torch.set_num_threads(self.threads)
        if self.config.engine == "ray":
            provenance, retry_failed = self.worker.provenance, self.worker.retry_failed
            with Cluster(self.config, provenance, retry_failed=retry_failed) as cluster:
                self._run(cluster)
        else:
            try:
                self._run(None)
            finally:
                self._close_helper()
        self._finish(time.perf_counter() - begin)
        problems, degenerate = self.record.problems, self.record.degenerate
        return Outcome(self.store.folder, problems, self.counters.computed, self.counters.reused, degenerate)

    def _run(self, cluster: Cluster | None) -> None:
        self._check_preconditions()
        networks = self._train_networks(cluster)
        self.images.forget("train")
        self.images.forget("val")
        selected = self._select_images(networks)
        for trained in networks:
            remember_shape(trained.network, selected.split.shape)
        checked = [(trained, self._check_explainers(trained)) for trained in networks]
        jobs = [(trained, [name for name in checks if checks[name].applies]) for trained, checks in checked]
        for trained, checks in checked:
            self._record_checks(trained, checks)
        pairs = self._prepare_pairs(networks)
        self._record_plan(networks, selected, jobs, pairs)
        if cluster:
            done = work_on_cluster(cluster, jobs, selected, self.progress)
        else:
            done = work_here(jobs, selected, self.worker, self.progress, self.helper)
        for counters in done:
            self.counters.merge(counters)
        self._close_helper()
        for trained, names in jobs:
            self.record.audit += self._audit(trained, names, selected)
        for pair in pairs:
            self.counters.merge(pair.score(self.progress.step))
        self._write_gallery(jobs, selected)

    def _check_preconditions(self) -> None:
        """Record what the run cannot give. See `benchmarks.run.preconditions`."""
        dataset = self.components.dataset
        check_classes(dataset)
        problems = idle_plugins(self.components.plugins)
        problems += unscored_metrics(self.components.metrics, dataset, self.config.split)
        self.counters.problems += problems

    def _train_networks(self, cluster: Cluster | None) -> list[TrainedNetwork]:
        cells = train_cells(self.config, self.components)
        if cluster:
            self._train_on_cluster(cluster, cells)
            networks = [load_trained(cell, self.components, self.store, self.device) for cell in cells]
        else:
            networks = self._train_missing(cells)
        trained = [network for network in networks if network is not None]
        if not trained:
            failures = [problem for problem in self.counters.problems if problem.cell is not None]
            raise FailedRunError(f"no network could be trained: {failures[0].what}")
        return trained

    def _train_missing(self, cells: Sequence[TrainCell]) -> list[TrainedNetwork | None]:
        """Train networks or load them, two at a time where several are missing and there is a helper."""
        missing = [cell for cell in cells if not is_stored(cell, self.store)]
        if self.helper is None or len(missing) < 2:
            return [self._train_here(cell) for cell in cells]
        networks: dict[str, TrainedNetwork | None] = {}

        def train_here(cell: TrainCell) -> None:
            networks[cell.key] = self._train_here(cell)

        missing.sort(key=lambda cell: training_effort(self.components.training_stages[cell.model.name]))
        for counters in self.helper.share(missing, train_task, train_here, self.counters.clock, "train"):
            self.counters.merge(replace(counters, clock=Clock()))  # its times passed beside those of this process
        for cell in [cell for cell in cells if cell not in missing]:
            train_here(cell)
        load = partial(load_trained, components=self.components, store=self.store, device=self.device)
        return [networks[cell.key] if cell.key in networks else load(cell) for cell in cells]

    def _close_helper(self) -> None:
        if self.helper is not None:
            self.helper.close()

    def _train_here(self, cell: TrainCell) -> TrainedNetwork | None:
        name = f"{cell.model.name}, seed {cell.seed}"
        epochs = sum(stage.recipe.epochs for stage in self.components.training_stages[cell.model.name])
        self.progress.begin(f"Training {name}", epochs)

        def show(epoch: Epoch) -> None:
            self.progress.step(f"Training {name}: validation accuracy {epoch.val_accuracy:.3f}")

        data_before, begin = self.images.seconds, time.perf_counter()
        trained = self.worker.train(cell, self.images, self.counters, show)
        self.counters.clock.add("train", time.perf_counter() - begin - (self.images.seconds - data_before))
        return trained

    def _train_on_cluster(self, cluster: Cluster, cells: Sequence[TrainCell]) -> None:
        self.progress.begin("Training on the cluster", len(cells))
        for counters in cluster.train(cells):
            self.counters.merge(counters)
            self.progress.step("Training on the cluster")

    def _select_images(self, networks: Sequence[TrainedNetwork]) -> SelectedImages:
        split = self.images.split_to_explain(self.config.split)
        side = min(split.shape[-2:])
        if max(self.config.grids, default=0) > side:
            raise ConfigError(f"grids: {max(self.config.grids)} cells a side do not fit images of {side} pixels")
        self.progress.begin("Selecting images", 1)
        with self.counters.clock.measure("select"):
            normalised = [NormalisedNetwork(trained.network, trained.statistics) for trained in networks]
            batches, multi_label = self.images.batches(split, PLAIN), self.components.dataset.multi_label
            indices = correct_everywhere(normalised, batches, self.config.images, multi_label=multi_label)
        self.progress.step(f"Selecting images: {len(indices)} of {len(split)}")
        return SelectedImages(split, indices, self.config.shard)

    def _prepare_pairs(self, networks: Sequence[TrainedNetwork]) -> list[TrainedPair]:
        """Train and prove the pairs; those that are refused are recorded and left out."""
        if not self.pairs:
            unused = [name for name, metric in self.components.metrics.items() if metric.needs_twin]
            what = "left out: the run has no pairs of networks (field pairs)"
            self.counters.problems += [Problem(where=name, what=what) for name in unused]
        pairs = []
        for trained in networks:
            for config in [pair for pair in self.pairs if pair.model == trained.cell.model.name]:
                stages = shortened_stages(self.components.training_stages[config.model], config.budget)
                epochs = sum(stage.recipe.epochs for stage in stages)
                self.progress.begin(f"Training pair {config.name}, seed {trained.cell.seed}", 2 * epochs)
                record, pair = prepare_pair(config, trained, self.worker, self.counters, self._show_epoch, self.helper)
                self.record.pairs = [*self.record.pairs, record]
                pairs += [pair] if pair else []
        return pairs

    def _show_epoch(self, name: str, epoch: Epoch) -> None:
        self.progress.step(f"Training {name}: validation accuracy {epoch.val_accuracy:.3f}")

    def _check_explainers(self, trained: TrainedNetwork) -> dict[str, Applicability]:
        """Return which of the explainers can explain a network, by name; none where the model asks for none."""
        explainers = self.components.explainers if trained.cell.model.explained else {}
        return {name: applicability(explainer, trained.network) for name, explainer in explainers.items()}

    def _record_checks(self, trained: TrainedNetwork, checks: Mapping[str, Applicability]) -> None:
        """Record which explainers are left out on a network, and which are doubtful."""
        model, entries = trained.cell.model.name, {entry.name: entry for entry in self.record.explainers}
        for name, check in checks.items():
            # Maps that a network brings itself exist on those networks alone. Elsewhere they are left out silently.
            if check.reason is not None and self.components.explainers[name].kind in ("external", "control"):
                self.counters.problems.append(Problem(where=f"{model}, {name}", what=f"left out: {check.reason}"))
            if check.caveat is not None:
                entries[name].caveats.setdefault(model, check.caveat)

    def _audit(self, trained: TrainedNetwork, names: Sequence[str], selected: SelectedImages) -> list[AuditRecord]:
        """Compare scores of a sample of the first shard with Quantus. Needs the stored maps of the network."""
        with self.counters.clock.measure("audit"):
            shard = selected.shard(0, trained.statistics)
            cells = shard_cells(self.config, self.components, trained.cell, shard.split.ids, shard.start)
            maps_by_cell = ((cell, self.store.read_maps(cell.key)) for cell in cells if cell.explainer in names)
            samples = [self._sample(trained, cell, shard, maps) for cell, maps in maps_by_cell if maps is not None]
            return audit(self.components.metrics, samples, trained.cell.seed)

    def _sample(self, trained: TrainedNetwork, cell: ExplainCell, shard: Shard, maps: np.ndarray) -> Sample:
        split, explainer = shard.split, self.components.explainers[cell.explainer]
        batch = Batch(
            model=trained.network,
            images=shard.images.numpy(),
            targets=split.targets,
            maps=maps,
            masks=split.masks,
            device=self.device,
            seed=cell.seed,
            explain=explain_again(explainer, cell.seed, self.device),
            multi_label=self.components.dataset.multi_label,
        )
        return Sample(trained.cell.model.name, cell.explainer, batch)

    def _record_plan(
        self,
        networks: Sequence[TrainedNetwork],
        selected: SelectedImages,
        jobs: Jobs,
        pairs: Sequence[TrainedPair],
    ) -> None:
        """Record and write what is known before the first shard, so that an unfinished run can be reported."""
        split, dataset = selected.split, self.record.dataset
        dataset.image_size, dataset.split = split.shape[-1], self.config.split
        dataset.considered, dataset.evaluated = len(split), len(selected)
        dataset.areas, dataset.unreadable = selected.areas(), self._unreadable_images(networks)
        self.counters.problems += [unreadable_problem(name, reasons) for name, reasons in dataset.unreadable.items()]
        if dataset.findings:
            self.counters.problems.append(annotation_problem(dataset.findings))
        self.record.models = describe_models(networks, split.shape)
        self.record.cells = [*self._keys(jobs, selected), *(key for pair in pairs for key in pair.score_keys())]
        self.store.write_record(self.record)
        steps = len(self.record.cells) + sum(len(list(pair.cells())) for pair in pairs)
        self.progress.begin("Explaining and scoring", steps)

    def _unreadable_images(self, networks: Sequence[TrainedNetwork]) -> dict[str, dict[str, str]]:
        """Return why images could not be read, by split and image id, in this run or when a network was trained."""
        unreadable: dict[str, dict[str, str]] = {}
        for by_split in (*(trained.facts["unreadable"] for trained in networks), self.images.unreadable):
            for split, reasons in by_split.items():
                unreadable[split] = unreadable.get(split, {}) | reasons
        return unreadable

    def _keys(self, jobs: Jobs, selected: SelectedImages) -> Iterator[str]:
        """Yield the key of every explain cell, followed by those of its score cells."""
        for trained, names in jobs:
            for cell in explain_cells(self.config, self.components, [trained.cell], selected.ids):
                if cell.explainer in names:
                    yield cell.key
                    yield from (score.key for score in score_cells(self.components, cell, self.worker.transforms))

    def _write_gallery(self, jobs: Jobs, selected: SelectedImages) -> None:
        """Write the images and maps that the report shows; which ones depends on the scores."""
        first_seed = {trained.cell.model.name: trained.cell for trained, _ in reversed(jobs)}
        keys: dict[tuple[str, str, int], str] = {}
        for cell in explain_cells(self.config, self.components, list(first_seed.values()), selected.ids):
            keys[cell.train.model.name, cell.explainer, cell.start] = cell.key
        self.store.write_record(self.record)
        ranked = {metric.name for metric in self.record.metrics if metric.ranked}
        examples = images_to_keep(read_run(self.store.folder, only=ranked))
        pairs = list(dict.fromkeys((trained.cell.model.name, name) for trained, names in jobs for name in names))
        classes, count = self.components.dataset.classes, self.config.gallery

        def maps_of(pair: Pair, start: int) -> np.ndarray | None:
            return self.store.read_maps(keys[(*pair, start)])

        self.store.write_gallery(build_gallery(selected, classes, pairs, examples, count, maps_of))

    def _finish(self, total: float) -> None:
        """Record times, problems and counts, and write the record."""
        record, counters = self.record, self.counters
        times = {"total": total, **counters.clock.seconds}
        if self.config.engine == "local":  # on a cluster seconds of several workers pass at once
            times["harness"] = total - sum(counters.clock.seconds.values())
        times["data"] = self.images.seconds
        record.times = {name: round(seconds, 2) for name, seconds in times.items()}
        set_aside = [*counters.set_aside, *self.store.set_aside]
        problems = [Problem(where="store", what=message) for message in set_aside]
        record.problems = merge_equal_problems(counters.problems) + problems
        record.degenerate = counters.degenerate_records()
        record.computed, record.reused = counters.computed, counters.reused
        record.finished = utc_now()
        self.store.write_record(record)

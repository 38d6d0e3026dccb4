"""Runs the cells of a plan on one machine: train, explain, score; what is in the store is not computed again.

A cell that fails is recorded among the run's problems, and the rest goes on. The clock is split into data, training,
explaining, forward passes inside metrics, what the metrics' library does around them, and the rest, which is the
harness' own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from baselines.guard import Cost, counted
from benchmarks.config import Parts, RunConfig, digest, resolve_device
from benchmarks.describe import describe
from benchmarks.metrics import Batch
from benchmarks.metrics.base import degenerate
from benchmarks.models import Data, Trained, correct_everywhere, train_or_load
from benchmarks.plan import ExplainCell, ScoreCell, explain_cells, score_cells, train_cells
from benchmarks.report.data import Gallery
from benchmarks.store import Store
from benchmarks.version import VERSION, git_state, system, versions
from interp_core.backbone import feature_layer
from interp_core.datasets import Split
from interp_core.training import Epoch


class Progress(Protocol):
    """What the engine tells whoever watches."""

    def begin(self, what: str, total: int) -> None:
        """A phase of `total` steps starts."""

    def step(self, what: str) -> None:
        """One step of the phase is done; `what` says how it stands."""


class Silent:
    """Nobody watches."""

    def begin(self, what: str, total: int) -> None:
        """Nothing."""

    def step(self, what: str) -> None:
        """Nothing."""


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        """Add to one entry."""
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of the block to one entry."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(what, time.perf_counter() - begin)


@dataclass
class Outcome:
    """How a run ended."""

    folder: Path
    problems: list[dict[str, str]]
    computed: int
    reused: int


class Engine:
    """One run of one configuration.

    Args:
        config: what to run.
        progress: who watches.

    Raises:
        InterpError: a name, parameter, device or the output folder is not usable; nothing has been computed then.
    """

    def __init__(self, config: RunConfig, progress: Progress | None = None) -> None:
        self.config, self.progress = config, progress or Silent()
        self.parts = Parts(config)
        self.device = resolve_device(config.device)
        self.store = Store(config.folder)
        self.clock, self.data = Clock(), Data(self.parts.dataset)
        self.problems: list[dict[str, str]] = []
        self.computed = self.reused = 0
        self.meta = self._first_meta()

    def run(self) -> Outcome:
        """Compute what is missing and write the store; the report is made from it by `benchmarks.report`."""
        begin = time.perf_counter()
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        trained = self._trained()
        self.data.forget("train")
        self.data.forget("val")
        split, images = self._chosen(trained)
        tasks = list(self._tasks(trained, split))
        self.meta["cells"] = [key for _, cell, scores in tasks for key in (cell.key, *(s.key for s in scores))]
        self._write_meta(trained, len(split))
        self.progress.begin("Explaining and scoring", sum(1 + len(scores) for _, _, scores in tasks))
        for item, cell, scores in tasks:
            self._explain_and_score(item, cell, scores, split, images)
        self.store.write_gallery(self._gallery(trained, split))
        self._finish(time.perf_counter() - begin)
        return Outcome(self.store.folder, self.problems, self.computed, self.reused)

    def _trained(self) -> list[Trained]:
        found = []
        for cell in train_cells(self.config, self.parts):
            name = f"{cell.model.name}, seed {cell.seed}"
            self.progress.begin(f"Training {name}", self.config.recipe.epochs)

            def show(epoch: Epoch, name: str = name) -> None:
                self.progress.step(f"Training {name}: validation accuracy {epoch.val_accuracy:.3f}")

            data_before, begin = self.data.seconds, time.perf_counter()
            found.append(train_or_load(cell, self.config, self.parts, self.data, self.store, self.device, show))
            self.clock.add("train", time.perf_counter() - begin - (self.data.seconds - data_before))
        return found

    def _chosen(self, trained: list[Trained]) -> tuple[Split, Tensor]:
        test = self.data.split("test")
        images, targets = self.data.tensors(test)
        with self.clock.measure("select"):
            chosen = correct_everywhere(trained, images, targets, self.config.images)
        return test.take(chosen), images[torch.from_numpy(chosen)]

    def _tasks(self, trained: list[Trained], split: Split) -> Iterator[tuple[Trained, ExplainCell, list[ScoreCell]]]:
        by_key = {item.cell.key: item for item in trained}
        cells = explain_cells(self.config, self.parts, [item.cell for item in trained], split.ids)
        # A check for every pair, not for every shard: some probe the network.
        valid: dict[tuple[str, str], bool] = {}
        for cell in cells:
            item, pair = by_key[cell.train.key], (cell.train.key, cell.explainer)
            if pair not in valid:
                valid[pair] = self._is_valid(item, cell.explainer)
            if valid[pair]:
                yield item, cell, score_cells(self.parts, cell)

    def _is_valid(self, item: Trained, explainer: str) -> bool:
        reason = self.parts.explainers[explainer].unsupported(item.network)
        if reason is not None and self.parts.explainers[explainer].kind != "intrinsic":
            self._problem(f"{item.cell.model.name}, {explainer}", f"left out: {reason}")
        return reason is None

    def _explain_and_score(
        self, item: Trained, cell: ExplainCell, scores: list[ScoreCell], split: Split, images: Tensor
    ) -> None:
        missing = [score for score in scores if not self.store.has_cell(score.key)]
        maps = self.store.read_maps(cell.key) if self.store.has_cell(cell.key) else None
        self.reused += len(scores) - len(missing) + (maps is not None)
        for _ in range(len(scores) - len(missing)):
            self.progress.step(f"{cell.train.model.name}: {cell.explainer}")
        if maps is None:
            maps = self._explain(item, cell, split, images)
        self.progress.step(f"{cell.train.model.name}: {cell.explainer}")
        for score in missing:
            if maps is not None:
                self._score(item, score, maps, split, images)
            self.progress.step(f"{cell.train.model.name}: {cell.explainer}, {score.metric}")

    def _explain(self, item: Trained, cell: ExplainCell, split: Split, images: Tensor) -> np.ndarray | None:
        part = slice(cell.start, cell.stop)
        explainer = self.parts.explainers[cell.explainer]
        batch, targets, masks = (
            tensor.to(self.device)
            for tensor in (images[part], torch.from_numpy(split.targets[part]), torch.from_numpy(split.masks[part]))
        )
        try:
            with self.clock.measure("explain"):
                maps, cost = explainer.measure(item.network, batch, targets, masks=masks, seed=cell.seed)
        except Exception as error:  # whatever a library raises must not end the run
            self._problem(
                f"{cell.train.model.name}, {cell.explainer}, images {cell.start}-{cell.stop - 1}", _line(error)
            )
            return None
        values = maps.cpu().numpy()
        n = len(values)
        spent = {"seconds": cost.seconds / n, "forwards": cost.forwards / n, "backwards": cost.backwards / n}
        table = self._table(cell, split, {name: np.full(n, value) for name, value in spent.items()}, degenerate(values))
        self.store.write_maps(cell.key, values)
        self.store.write_cell(cell.key, table, self._provenance(cell.key, cell.seed, cost))
        self.computed += 1
        return values

    def _score(self, item: Trained, cell: ScoreCell, maps: np.ndarray, split: Split, images: Tensor) -> None:
        explain = cell.explain
        part = slice(explain.start, explain.stop)
        batch = Batch(
            item.network, images[part].numpy(), split.targets[part], maps, split.masks[part], self.device, explain.seed
        )
        cost = Cost()
        try:
            with counted(item.network, cost):
                values = self.parts.metrics[cell.metric](batch)
        except Exception as error:  # as above
            self._problem(f"{explain.train.model.name}, {explain.explainer}, {cell.metric}", _line(error))
            return
        finally:
            self.clock.add("metrics_model", cost.model_seconds)
            self.clock.add("metrics_library", cost.seconds - cost.model_seconds)
        table = self._table(explain, split, values, degenerate(maps))
        self.store.write_cell(cell.key, table, self._provenance(cell.key, explain.seed, cost))
        self.computed += 1

    def _table(self, cell: ExplainCell, split: Split, values: dict[str, np.ndarray], bad: np.ndarray) -> pd.DataFrame:
        ids = split.ids[cell.start : cell.stop]
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "model": cell.train.model.name,
                        "explainer": cell.explainer,
                        "metric": name,
                        "seed": cell.train.seed,
                        "image_id": ids,
                        "value": column.astype(np.float64),
                        "degenerate": bad,
                    }
                )
                for name, column in values.items()
            ],
            ignore_index=True,
        )

    def _gallery(self, trained: list[Trained], split: Split) -> Gallery:
        """The first images with the maps of the first seed; explainers without maps for all of them are left out."""
        count = min(self.config.gallery, len(split))
        first = [item for item in trained if item.cell.seed == self.config.seeds[0]]
        maps: dict[tuple[str, str], list[np.ndarray]] = {}
        for _, cell, _ in self._tasks(first, split):
            found = self.store.read_maps(cell.key) if cell.start < count else None
            if found is not None:
                maps.setdefault((cell.train.model.name, cell.explainer), []).append(found[:, 0])
        stacked = {pair: np.concatenate(parts)[:count] for pair, parts in maps.items()}
        return Gallery(
            split.images[:count].transpose(0, 2, 3, 1),
            split.masks[:count, 0],
            split.ids[:count],
            [self.parts.dataset.classes[target] for target in split.targets[:count]],
            {pair: found for pair, found in stacked.items() if len(found) == count},
        )

    def _problem(self, where: str, what: str) -> None:
        if {"where": where, "what": what} not in self.problems:
            self.problems.append({"where": where, "what": what})

    def _provenance(self, key: str, seed: int, cost: Cost) -> dict[str, Any]:
        return {
            "key": key,
            "config": self.meta["config_hash"],
            "version": VERSION,
            "versions": self.meta["versions"],
            "git": self.meta["git"],
            "seed": seed,
            "device": self.device,
            "seconds": cost.seconds,
            "forwards": cost.forwards,
            "backwards": cost.backwards,
            "peak_bytes": cost.peak_bytes,
        }

    def _first_meta(self) -> dict[str, Any]:
        config = self.config.model_dump(mode="json", exclude={"output"})
        return {
            "schema": 1,
            "name": self.config.name,
            "started": _now(),
            "finished": None,
            "config": config,
            "config_hash": digest(config),
            "versions": versions(),
            **system(),
            "device": torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device,
            "threads": self.config.threads or torch.get_num_threads(),
            "git": git_state(Path(__file__)),
            "seeds": list(self.config.seeds),
            **describe(self.parts),
        }

    def _write_meta(self, trained: list[Trained], evaluated: int) -> None:
        split = self.data.split("test")
        self.meta["dataset"] |= {"image_size": split.images.shape[-1], "considered": len(split), "evaluated": evaluated}
        self.meta["models"] = [self._model_meta(item) for item in trained]
        self.store.write_meta(self.meta)

    def _model_meta(self, item: Trained) -> dict[str, Any]:
        model, facts = item.cell.model, item.facts
        size = self.data.split("test").images.shape
        with torch.no_grad():
            backbone = getattr(item.network, "backbone", item.network)
            features = backbone.forward_features(torch.zeros(1, *size[1:], device=self.device))  # type: ignore[operator]
        title = f"{model.backbone}, {'with LAP' if model.lap else 'plain'}"
        known = {key: facts[key] for key in ("train_seconds", "val_accuracy", "test_accuracy", "parameters")}
        layer = feature_layer(backbone)
        shape = {"grid": list(features.shape[-2:]), "layer": layer.name, "first": layer.first, "pitch": layer.pitch}
        return {
            "name": model.name,
            "title": title,
            "backbone": model.backbone,
            "lap": model.lap,
            "seed": item.cell.seed,
            **known,
            **shape,
        }

    def _finish(self, total: float) -> None:
        self.clock.add("data", self.data.seconds)
        spent = self.clock.seconds
        library = sum(
            spent.get(name, 0.0) for name in ("train", "explain", "metrics_model", "metrics_library", "select")
        )
        times = {"total": total, **spent, "harness": total - library}
        self.meta["times"] = {name: round(value, 2) for name, value in times.items()}
        self.problems += [{"where": "store", "what": what} for what in self.store.set_aside]
        self.meta |= {"finished": _now(), "problems": self.problems}
        self.meta["computed"], self.meta["reused"] = self.computed, self.reused
        self.store.write_meta(self.meta)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

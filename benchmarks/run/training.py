"""The networks of a run: built, trained, kept as safetensors, and found again.

While a network is trained in a folder of this machine, checkpoints lie beside its place in the store, so that a run
that is killed goes on within the training. Known limit: where the store is a URL, the training starts anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from benchmarks.plan.cells import TrainCell
from benchmarks.plan.components import RunComponents
from benchmarks.run.images import RunImages, Statistics
from benchmarks.run.networks import build_network, statistics_for
from benchmarks.run.region_masks import regions_of
from benchmarks.run.staged_training import train_in_stages
from benchmarks.store.locations import is_url, list_files, local_copy, rename, write_file, writing
from benchmarks.store.run_folder import Store
from interp_core.datasets import DatasetConfig, FileDataset, SplitName
from interp_core.errors import StoreError
from interp_core.training import Epoch, evaluate, is_correct, predict
from interp_core.training.checkpoint import Checkpoint


@dataclass
class TrainedNetwork:
    """A network in evaluation mode and what is known of it."""

    cell: TrainCell
    network: nn.Module
    facts: dict[str, Any]

    @property
    def statistics(self) -> Statistics:
        """Mean and standard deviation per channel that normalise its images, in [0, 1] units."""
        mean, std = self.facts["normalised_by"]
        return tuple(mean), tuple(std)


def train_or_load(
    cell: TrainCell,
    parts: RunComponents,
    data: RunImages,
    store: Store,
    device: str,
    progress: Callable[[Epoch], None],
) -> TrainedNetwork:
    """The network of a cell, from the store if it is there, else trained and stored."""
    found = load_trained(cell, parts, store, device)
    if found is not None:
        return found

    def statistics(backbone: nn.Module) -> Statistics:
        return statistics_for(cell.model, backbone, data)

    network = build_network(cell.model, len(parts.dataset.classes), cell.seed, statistics=statistics).to(device)
    facts = _train(network, cell, parts, data, store, progress)
    _save(network, facts, cell, store)
    for path in list_files(store.folder / "models", f"{cell.key}.stage*.pt*"):
        if not path.name.endswith(".corrupt"):
            path.unlink()
    return _ready(cell, network, facts, parts)


def load_trained(cell: TrainCell, parts: RunComponents, store: Store, device: str) -> TrainedNetwork | None:
    """The network of a cell from the store; None if it is not there or cannot be read."""
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    description = weights.with_suffix(".json")
    if not description.exists() or not weights.exists():
        return None
    try:
        facts = json.loads(description.read_text())["facts"]
        mean, std = (tuple(values) for values in facts["normalised_by"])
        classes = len(parts.dataset.classes)
        network = build_network(cell.model, classes, cell.seed, weights=False, statistics=lambda _: (mean, std)).to(
            device
        )
        with local_copy(weights) as path:
            load_model(network, str(path))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        store.set_aside.append(f"models/{weights.name} could not be read and is trained again: {str(error)[:80]}")
        return None
    return _ready(cell, network, facts, parts)


def _ready(cell: TrainCell, network: nn.Module, facts: dict[str, Any], parts: RunComponents) -> TrainedNetwork:
    recipe = parts.training_stages[cell.model.name][-1].recipe
    memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network.to(memory_format=memory_format)  # type: ignore[call-overload]
    return TrainedNetwork(cell, network.eval(), facts)


def _train(
    network: nn.Module,
    cell: TrainCell,
    parts: RunComponents,
    data: RunImages,
    store: Store,
    progress: Callable[[Epoch], None],
) -> dict[str, Any]:
    statistics, stages = statistics_for(cell.model, network, data), parts.training_stages[cell.model.name]
    training = any(stage.recipe.epochs for stage in stages)
    # A network that is judged as it is needs no validation images.
    validation = data.source(data.split("val"), statistics) if training or _has(parts.dataset, "val") else None
    made: list[dict[str, Any]] = []
    if training:
        split = data.split("train")
        made = train_in_stages(
            network,
            stages,
            data.source(split, statistics),
            [regions_of(data, split, stage.regions, cell.seed) for stage in stages],
            [_checkpoint(cell, store, number) for number in range(1, len(stages) + 1)],
            seed=cell.seed,
            names=parts.dataset.classes,
            validation=validation,
            progress=progress,
        )
    network.eval()
    return {
        "train_seconds": round(sum(stage["seconds"] for stage in made), 2),
        "val_accuracy": made[-1]["val_accuracy"] if made else validation and evaluate(network, *validation),
        "test_accuracy": accuracy(network, data.batches(data.split("test"), statistics)),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "normalised_by": [list(values) for values in statistics],
        "unreadable": data.unreadable,
        "history": [epoch for stage in made for epoch in stage["history"]],
        "stages": made,
    }


def _checkpoint(cell: TrainCell, store: Store, number: int) -> Path | None:
    """Where a stage is kept while it is trained; one that cannot be read is set aside."""
    if is_url(store.folder):
        return None
    path = Path(str(store.folder), "models", f"{cell.key}.stage{number}.pt")
    try:
        Checkpoint(path, {}).read()
    except StoreError:
        spare = rename(path, f"{path.name}.corrupt")
        store.set_aside.append(f"models/{path.name} could not be read; kept as {spare.name}, and trained anew")
    return path


def _has(dataset: DatasetConfig, split: SplitName) -> bool:
    """Whether a data set has images of a split."""
    return not isinstance(dataset, FileDataset) or bool(dataset.checked_index.records.get(split))


def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor, np.ndarray]]) -> float:
    """Return the accuracy over all batches of images (N, C, H, W) and targets; see `training.is_correct`."""
    found = [is_correct(predict(network, images), targets) for images, targets, _ in batches]
    return torch.cat(found).mean().item() if found else float("nan")


def _save(network: nn.Module, facts: dict[str, Any], cell: TrainCell, store: Store) -> None:
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    with writing(weights) as path:
        save_model(network, str(path))
    # Last, so that a description always has its weights.
    description = {"model": cell.model.model_dump(mode="json"), "facts": facts}
    write_file(weights.with_suffix(".json"), json.dumps(description, indent=1) + "\n")

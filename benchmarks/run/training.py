"""Train the networks of a run, store them as safetensors, and load them again.

While a network is trained, its checkpoints lie in the run's folder, so that a killed run goes on within the training.
Known limit: if the store is a URL, there are no checkpoints and the training starts anew.
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
from benchmarks.store.json_text import json_text
from benchmarks.store.locations import is_url, list_files, local_copy, rename, write_file, writing
from benchmarks.store.run_folder import Store
from interp_core.datasets import DatasetConfig, FileDataset, SplitName
from interp_core.errors import StoreError
from interp_core.training import Epoch, evaluate, is_correct, predict
from interp_core.training.checkpoint import Checkpoint
from interp_core.training.divergence import check_weights

# Facts of a stored network that a run needs.
FACTS = ("train_seconds", "val_accuracy", "test_accuracy", "parameters", "normalised_by", "unreadable")


@dataclass
class TrainedNetwork:
    """A network in evaluation mode.

    Attributes:
        cell: its key and configuration.
        network: on the run's device.
        facts: about its training, as plain data: see `_train`.
    """

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
    components: RunComponents,
    images: RunImages,
    store: Store,
    device: str,
    progress: Callable[[Epoch], None],
    start: nn.Module | None = None,
) -> TrainedNetwork:
    """Load a network from the store, or train and store it.

    Args:
        cell: which network.
        components: data set and training stages of the run.
        images: of the run.
        store: of the run.
        device: where the network is trained.
        progress: called after each epoch.
        start: network of the same architecture whose weights the training starts from; None for those of the cell.

    Raises:
        InterpError: a setting does not fit the network or the data.
    """
    trained = load_trained(cell, components, store, device)
    if trained is not None:
        return trained

    def statistics(backbone: nn.Module) -> Statistics:
        return statistics_for(cell.model, backbone, images)

    classes = len(components.dataset.classes)
    network = build_network(cell.model, classes, cell.seed, statistics=statistics).to(device)
    if start is not None:
        network.load_state_dict(start.state_dict())
    facts = _train(network, cell, components, images, store, progress)
    _save(network, facts, cell, store)
    for path in list_files(store.folder / "models", f"{cell.key}.stage*.pt*"):
        if not path.name.endswith(".corrupt"):
            path.unlink()
    return _prepare(cell, network, facts, components)


def is_stored(cell: TrainCell, store: Store) -> bool:
    """Return whether the store has the network of a cell."""
    return (store.folder / "models" / f"{cell.key}.json").exists()


def load_trained(cell: TrainCell, components: RunComponents, store: Store, device: str) -> TrainedNetwork | None:
    """Load a network from the store; None if it is not there or cannot be read."""
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    description = weights.with_suffix(".json")
    if not description.exists() or not weights.exists():
        return None
    try:
        facts = json.loads(description.read_text(encoding="utf-8"))["facts"]
        _check_facts(facts)
        mean, std = (tuple(values) for values in facts["normalised_by"])
        classes = len(components.dataset.classes)
        network = build_network(cell.model, classes, cell.seed, weights=False, statistics=lambda _: (mean, std))
        network = network.to(device)
        with local_copy(weights) as path:
            load_model(network, str(path))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        store.set_aside.append(f"models/{weights.name} could not be read and is trained again: {str(error)[:80]}")
        return None
    return _prepare(cell, network, facts, components)


def _check_facts(facts: dict[str, Any]) -> None:
    """Check that the stored facts of a network are those that a record is made of.

    Raises:
        KeyError: one is missing.
    """
    missing = [name for name in FACTS if name not in facts]
    if missing:
        raise KeyError(f"no {missing[0]} in the description")


def _prepare(cell: TrainCell, network: nn.Module, facts: dict[str, Any], components: RunComponents) -> TrainedNetwork:
    """Put a network into evaluation mode, in the memory format of its last training stage."""
    recipe = components.training_stages[cell.model.name][-1].recipe
    memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network.to(memory_format=memory_format)  # type: ignore[call-overload]
    return TrainedNetwork(cell, network.eval(), facts)


def _train(
    network: nn.Module,
    cell: TrainCell,
    components: RunComponents,
    images: RunImages,
    store: Store,
    progress: Callable[[Epoch], None],
) -> dict[str, Any]:
    """Train a network in place, and return the facts that are stored with it."""
    statistics, stages = statistics_for(cell.model, network, images), components.training_stages[cell.model.name]
    learns = any(stage.recipe.epochs for stage in stages)
    # A network that is judged as it is needs no validation images.
    has_validation = learns or _has_split(components.dataset, "val")
    validation = images.source(images.split("val"), statistics) if has_validation else None
    stage_records: list[dict[str, Any]] = []
    if learns:
        split = images.split("train")
        stage_records = train_in_stages(
            network,
            stages,
            images.source(split, statistics),
            [regions_of(images, split, stage.regions, cell.seed) for stage in stages],
            [_checkpoint_path(cell, store, number) for number in range(1, len(stages) + 1)],
            seed=cell.seed,
            names=components.dataset.classes,
            validation=validation,
            progress=progress,
        )
    check_weights(network)
    network.eval()
    val_accuracy = stage_records[-1]["val_accuracy"] if learns else validation and evaluate(network, *validation)
    return {
        "train_seconds": round(sum(stage["seconds"] for stage in stage_records), 2),
        "val_accuracy": val_accuracy,
        "test_accuracy": accuracy(network, images.batches(images.split("test"), statistics)),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "normalised_by": [list(values) for values in statistics],
        "unreadable": images.unreadable,
        "history": [epoch for stage in stage_records for epoch in stage["history"]],
        "stages": stage_records,
    }


def _checkpoint_path(cell: TrainCell, store: Store, number: int) -> Path | None:
    """Return where a stage has its checkpoint; one that cannot be read is renamed."""
    if is_url(store.folder):
        return None
    path = Path(str(store.folder), "models", f"{cell.key}.stage{number}.pt")
    try:
        Checkpoint(path, {}).read()
    except StoreError:
        spare = rename(path, f"{path.name}.corrupt")
        store.set_aside.append(f"models/{path.name} could not be read; kept as {spare.name}, and trained anew")
    return path


def _has_split(dataset: DatasetConfig, split: SplitName) -> bool:
    return not isinstance(dataset, FileDataset) or bool(dataset.checked_index.records.get(split))


def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor, np.ndarray]]) -> float:
    """Return the accuracy over all batches of images (N, C, H, W) and targets; see `training.is_correct`."""
    correct = [is_correct(predict(network, images), targets) for images, targets, _ in batches]
    return torch.cat(correct).mean().item() if correct else float("nan")


def _save(network: nn.Module, facts: dict[str, Any], cell: TrainCell, store: Store) -> None:
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    with writing(weights) as path:
        save_model(network, str(path))
    # Last, so that a description always has its weights.
    description = {"model": cell.model.model_dump(mode="json"), "facts": facts}
    write_file(weights.with_suffix(".json"), json_text(description))

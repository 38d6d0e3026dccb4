"""The networks of a run: built, trained with one recipe, kept as safetensors, and found again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from benchmarks.config import ConfigError, ModelConfig, Parts, RunConfig
from benchmarks.places import fetched, write_to, written
from benchmarks.plan import TrainCell
from benchmarks.store import Store
from interp_core.attach import attach, create_backbone
from interp_core.datasets import DatasetConfig, Split, SplitName
from interp_core.training import DEFAULT_TERMS, Epoch, fit, predict

# Images of a data set judged at once; predict makes batches of this size too.
BATCH = 256


class Data:
    """The run's data set, made split by split when it is asked for, and normalised by its training images."""

    def __init__(self, dataset: DatasetConfig) -> None:
        self.dataset = dataset
        self.seconds = 0.0
        self._splits: dict[SplitName, Split] = {}
        self._statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def split(self, name: SplitName) -> Split:
        """Images of one split, kept."""
        begin = time.perf_counter()
        if name not in self._splits:
            self._splits[name] = self.dataset.load(name)
        self.seconds += time.perf_counter() - begin
        return self._splits[name]

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, in [0, 1] units; kept."""
        if self._statistics is None:
            self._statistics = self.dataset.channel_statistics()
        return self._statistics

    def tensors(self, split: Split) -> tuple[Tensor, Tensor]:
        """Normalised images (N, C, H, W) float32 and targets (N,)."""
        begin = time.perf_counter()
        images = normalised(split.images, self.statistics)
        self.seconds += time.perf_counter() - begin
        return images, torch.from_numpy(split.targets)

    def batches(self, split: Split, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, `size` images at a time: only these are ever floating point."""
        for start in range(0, len(split), size):
            yield self.tensors(split.take(np.arange(start, min(start + size, len(split)))))

    def forget(self, name: SplitName) -> None:
        """Free a split."""
        self._splits.pop(name, None)


def normalised(images: np.ndarray, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """Images (N, C, H, W) uint8 as float32 of mean 0 and standard deviation 1 per channel.

    Args:
        images: pixels.
        statistics: mean and standard deviation (C,) of the training images, in [0, 1] units.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    return (torch.from_numpy(images).float() / 255 - mean) / std


@dataclass
class Trained:
    """A network in evaluation mode and what is known of it."""

    cell: TrainCell
    network: nn.Module
    facts: dict[str, Any]


def build(model: ModelConfig, classes: int, seed: int) -> nn.Module:
    """A fresh network with random weights drawn from `seed`.

    Raises:
        ConfigError: timm or attach does not take the arguments.
    """
    torch.manual_seed(seed)
    try:
        network = create_backbone(model.backbone, **{"num_classes": classes, **model.kwargs})
        return attach(network, **model.attach) if model.lap else network
    except (TypeError, AssertionError, ValueError) as error:
        raise ConfigError(f"model {model.name}: {model.backbone} cannot be made: {error}") from error


def train_or_load(
    cell: TrainCell,
    config: RunConfig,
    parts: Parts,
    data: Data,
    store: Store,
    device: str,
    progress: Callable[[Epoch], None],
) -> Trained:
    """The network of a cell, from the store if it is there, else trained and stored."""
    found = load(cell, config, parts, store, device)
    if found is not None:
        return found
    network = build(cell.model, len(parts.dataset.classes), cell.seed).to(device)
    facts = _train(network, cell, config, parts, data, progress)
    _save(network, facts, cell, store)
    return _ready(cell, network, facts, config)


def load(cell: TrainCell, config: RunConfig, parts: Parts, store: Store, device: str) -> Trained | None:
    """The network of a cell from the store; None if it is not there or cannot be read."""
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    description = weights.with_suffix(".json")
    if not description.exists() or not weights.exists():
        return None
    network = build(cell.model, len(parts.dataset.classes), cell.seed).to(device)
    try:
        with fetched(weights) as path:
            load_model(network, str(path))
        facts = json.loads(description.read_text())["facts"]
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        store.set_aside.append(f"models/{weights.name} could not be read and is trained again: {str(error)[:80]}")
        return None
    return _ready(cell, network, facts, config)


def _ready(cell: TrainCell, network: nn.Module, facts: dict[str, Any], config: RunConfig) -> Trained:
    memory_format = torch.channels_last if config.recipe.channels_last else torch.contiguous_format
    network.to(memory_format=memory_format)  # type: ignore[call-overload]
    return Trained(cell, network.eval(), facts)


def _train(
    network: nn.Module,
    cell: TrainCell,
    config: RunConfig,
    parts: Parts,
    data: Data,
    progress: Callable[[Epoch], None],
) -> dict[str, Any]:
    images, targets = data.tensors(data.split("train"))
    validation = data.tensors(data.split("val"))
    recipe = config.recipe.model_copy(update={"seed": config.recipe.seed + cell.seed})
    terms = DEFAULT_TERMS if parts.terms is None else parts.terms
    begin = time.perf_counter()
    history = fit(network, images, targets, recipe=recipe, terms=terms, validation=validation, progress=progress)
    seconds = time.perf_counter() - begin
    return {
        "train_seconds": round(seconds, 2),
        "val_accuracy": history[-1].val_accuracy,
        "test_accuracy": accuracy(network, data.batches(data.split("test"))),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "history": [vars(epoch) for epoch in history],
    }


def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of images (N, C, H, W) whose target (N,) is predicted, over all batches."""
    right = [predict(network, images).argmax(1) == targets for images, targets in batches]
    return torch.cat(right).float().mean().item()


def _save(network: nn.Module, facts: dict[str, Any], cell: TrainCell, store: Store) -> None:
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    with written(weights) as path:
        save_model(network, str(path))
    # Last, so that a description always has its weights.
    description = {"model": cell.model.model_dump(mode="json"), "facts": facts}
    write_to(weights.with_suffix(".json"), json.dumps(description, indent=1) + "\n")


def correct_everywhere(
    networks: Iterable[nn.Module], batches: Iterable[tuple[Tensor, Tensor]], most: int
) -> np.ndarray:
    """Indices of the first `most` images that every network classifies correctly; batches after them are not asked for.

    Args:
        networks: in evaluation mode.
        batches: normalised images (N, C, H, W) and targets (N,), in the order of the indices.
        most: images wanted.

    Raises:
        ConfigError: there is none.
    """
    networks, chosen, seen = list(networks), np.empty(0, np.int64), 0
    for images, targets in batches:
        right = torch.ones(len(targets), dtype=torch.bool)
        for network in networks:
            right &= predict(network, images).argmax(1) == targets
        chosen = np.concatenate([chosen, right.nonzero()[:, 0].numpy() + seen])[:most]
        seen += len(targets)
        if len(chosen) == most:
            break
    if len(chosen) == 0:
        raise ConfigError("no test image is classified correctly by every network: train longer (recipe.epochs)")
    return chosen

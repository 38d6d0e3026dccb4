"""The networks of a run: built, trained with one recipe, kept as safetensors, and found again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from benchmarks.config import ConfigError, ModelConfig, Parts, RunConfig
from benchmarks.files import whole_file, write_whole
from benchmarks.plan import TrainCell
from benchmarks.store import Store
from interp_core.attach import attach, create_backbone
from interp_core.datasets import DatasetConfig, Split, SplitName
from interp_core.training import DEFAULT_TERMS, Epoch, evaluate, fit


class Data:
    """The run's data set, made split by split when it is asked for, and normalised by its training images."""

    def __init__(self, dataset: DatasetConfig) -> None:
        self.dataset = dataset
        self.seconds = 0.0
        self._splits: dict[SplitName, Split] = {}

    def split(self, name: SplitName) -> Split:
        """Images of one split, kept."""
        begin = time.perf_counter()
        if name not in self._splits:
            self._splits[name] = self.dataset.load(name)
        self.seconds += time.perf_counter() - begin
        return self._splits[name]

    def tensors(self, split: Split) -> tuple[Tensor, Tensor]:
        """Normalised images (N, C, H, W) float32 and targets (N,)."""
        begin = time.perf_counter()
        mean, std = (torch.tensor(values)[:, None, None] for values in self.dataset.channel_statistics())
        images = (torch.from_numpy(split.images).float() / 255 - mean) / std
        self.seconds += time.perf_counter() - begin
        return images, torch.from_numpy(split.targets)

    def forget(self, name: SplitName) -> None:
        """Free a split."""
        self._splits.pop(name, None)


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
    network = build(cell.model, len(parts.dataset.classes), cell.seed).to(device)
    facts = _load(network, cell, store)
    if facts is None:
        facts = _train(network, cell, config, parts, data, progress)
        _save(network, facts, cell, store)
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
        "test_accuracy": evaluate(network, *data.tensors(data.split("test"))),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "history": [vars(epoch) for epoch in history],
    }


def _save(network: nn.Module, facts: dict[str, Any], cell: TrainCell, store: Store) -> None:
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    with whole_file(weights) as path:
        save_model(network, str(path))
    # Last, so that a description always has its weights.
    description = {"model": cell.model.model_dump(mode="json"), "facts": facts}
    write_whole(weights.with_suffix(".json"), json.dumps(description, indent=1) + "\n")


def _load(network: nn.Module, cell: TrainCell, store: Store) -> dict[str, Any] | None:
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    description = weights.with_suffix(".json")
    if not description.exists() or not weights.exists():
        return None
    try:
        load_model(network, str(weights))
        return json.loads(description.read_text())["facts"]
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        store.set_aside.append(f"models/{weights.name} could not be read and is trained again: {str(error)[:80]}")
        return None


def correct_everywhere(trained: list[Trained], images: Tensor, targets: Tensor, most: int) -> np.ndarray:
    """Indices of the first `most` images that every network classifies correctly.

    Raises:
        ConfigError: there is none.
    """
    from interp_core.training import predict

    right = torch.ones(len(targets), dtype=torch.bool)
    for item in trained:
        right &= predict(item.network, images).argmax(1) == targets
    chosen = right.nonzero()[:most, 0].numpy()
    if len(chosen) == 0:
        raise ConfigError("no test image is classified correctly by every network: train longer (recipe.epochs)")
    return chosen

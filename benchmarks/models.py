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

from benchmarks.checkpoints import holds_lap, load_weights
from benchmarks.config import ConfigError, ModelConfig, Parts, rival_options
from benchmarks.data import Data, Statistics
from benchmarks.masks import regions_of
from benchmarks.places import fetched, is_url, listed, renamed, write_to, written
from benchmarks.plan import TrainCell
from benchmarks.rivals import build as build_rival
from benchmarks.staged import taught
from benchmarks.store import Store
from interp_core.attach import LapModel, attach, create_backbone
from interp_core.checkpoint import ELSEWHERE
from interp_core.datasets import DatasetConfig, FileDataset, SplitName
from interp_core.datasets.transforms import preprocessing
from interp_core.errors import StoreError
from interp_core.training import Epoch, evaluate, predict, right
from interp_core.training.resume import Checkpoint

FindStatistics = Callable[[nn.Module], Statistics]


@dataclass
class Trained:
    """A network in evaluation mode and what is known of it."""

    cell: TrainCell
    network: nn.Module
    facts: dict[str, Any]

    @property
    def statistics(self) -> Statistics:
        """Mean and standard deviation per channel that normalise its images, in [0, 1] units."""
        mean, std = self.facts["normalised_by"]
        return tuple(mean), tuple(std)


class Scaling(nn.Module):
    """A network that takes images in [0, 1].

    Args:
        network: takes normalised images.
        statistics: that normalise them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, statistics: Statistics) -> None:
        super().__init__()
        self.network = network
        for name, values in zip(("mean", "std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.to(next(network.parameters()).device)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.network((images - self.mean) / self.std)


def build(
    model: ModelConfig, classes: int, seed: int, *, weights: bool = True, statistics: FindStatistics | None = None
) -> nn.Module:
    """A fresh network: the weights of its checkpoint, else timm's pretrained ones, else random from `seed`.

    Args:
        model: what to build.
        classes: number of classes.
        seed: of random weights.
        weights: whether trained weights are wanted; False where all weights are about to be replaced.
        statistics: what normalises the images of a backbone, for rivals that must know; None for what timm says.

    Raises:
        ConfigError: timm or attach does not take the arguments, or the checkpoint does not fit.
        BackboneError: LAP or the rival cannot stand on this backbone.
    """
    torch.manual_seed(seed)
    arguments = {"num_classes": classes, **model.kwargs, **({} if weights else ELSEWHERE)}
    try:
        backbone = create_backbone(model.backbone, **arguments)
        whole = model.lap and model.checkpoint is not None and holds_lap(model.checkpoint)
        if model.checkpoint is not None and weights and not whole:
            load_weights(backbone, model.checkpoint)
        if model.rival is not None:
            return build_rival(model.rival.name, backbone, rival_options(model), statistics and statistics(backbone))
        if not model.lap:
            return backbone
        lap = attach(backbone, **model.attach)
        if model.checkpoint is not None and weights and whole:
            load_weights(lap, model.checkpoint)
        return held(lap, model.fixed)
    except (TypeError, AssertionError, ValueError) as error:
        raise ConfigError(f"model {model.name}: {model.backbone} cannot be made: {error}") from error


def held(lap: LapModel, fixed: Iterable[str]) -> LapModel:
    """The network with what an ablation leaves out held: no gradient, and every `a` held is 0.

    Args:
        lap: not trained yet.
        fixed: "a" for attention everywhere, "gates" for all of the blocks below the head.
    """
    for what in fixed:
        blocks = lap.gates if what == "gates" else (*lap.gates, lap.head)
        if what == "gates":
            lap.gates.requires_grad_(False)
        for block in blocks:
            block.a.requires_grad_(False).zero_()  # type: ignore[union-attr, operator]
    return lap


def statistics_for(model: ModelConfig, network: nn.Module, data: Data) -> Statistics:
    """What normalises the images of a network: as said, else what its trained weights are used to, else the data's."""
    trained = model.checkpoint is not None or bool(model.kwargs.get("pretrained"))
    wanted = model.normalise or ("backbone" if trained else "data")
    if wanted == "data":
        return data.statistics
    if wanted == "backbone":
        found = preprocessing(getattr(network, "backbone", network))
        return found.mean, found.std
    return wanted.mean, wanted.std


def train_or_load(
    cell: TrainCell,
    parts: Parts,
    data: Data,
    store: Store,
    device: str,
    progress: Callable[[Epoch], None],
) -> Trained:
    """The network of a cell, from the store if it is there, else trained and stored."""
    found = load(cell, parts, store, device)
    if found is not None:
        return found

    def statistics(backbone: nn.Module) -> Statistics:
        return statistics_for(cell.model, backbone, data)

    network = build(cell.model, len(parts.dataset.classes), cell.seed, statistics=statistics).to(device)
    facts = _train(network, cell, parts, data, store, progress)
    _save(network, facts, cell, store)
    for path in listed(store.folder / "models", f"{cell.key}.stage*.pt*"):
        if not path.name.endswith(".corrupt"):
            path.unlink()
    return _ready(cell, network, facts, parts)


def load(cell: TrainCell, parts: Parts, store: Store, device: str) -> Trained | None:
    """The network of a cell from the store; None if it is not there or cannot be read."""
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    description = weights.with_suffix(".json")
    if not description.exists() or not weights.exists():
        return None
    try:
        facts = json.loads(description.read_text())["facts"]
        mean, std = (tuple(values) for values in facts["normalised_by"])
        classes = len(parts.dataset.classes)
        network = build(cell.model, classes, cell.seed, weights=False, statistics=lambda _: (mean, std)).to(device)
        with fetched(weights) as path:
            load_model(network, str(path))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        store.set_aside.append(f"models/{weights.name} could not be read and is trained again: {str(error)[:80]}")
        return None
    return _ready(cell, network, facts, parts)


def _ready(cell: TrainCell, network: nn.Module, facts: dict[str, Any], parts: Parts) -> Trained:
    recipe = parts.trainings[cell.model.name][-1].recipe
    memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network.to(memory_format=memory_format)  # type: ignore[call-overload]
    return Trained(cell, network.eval(), facts)


def _train(
    network: nn.Module,
    cell: TrainCell,
    parts: Parts,
    data: Data,
    store: Store,
    progress: Callable[[Epoch], None],
) -> dict[str, Any]:
    statistics, stages = statistics_for(cell.model, network, data), parts.trainings[cell.model.name]
    training = any(stage.recipe.epochs for stage in stages)
    # A network that is judged as it is needs no validation images.
    validation = data.source(data.split("val"), statistics) if training or _has(parts.dataset, "val") else None
    made: list[dict[str, Any]] = []
    if training:
        split = data.split("train")
        made = taught(
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
        spare = renamed(path, f"{path.name}.corrupt")
        store.set_aside.append(f"models/{path.name} could not be read; kept as {spare.name}, and trained anew")
    return path


def _has(dataset: DatasetConfig, split: SplitName) -> bool:
    """Whether a data set has images of a split."""
    return not isinstance(dataset, FileDataset) or bool(dataset.indexed.records.get(split))


def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor, np.ndarray]]) -> float:
    """Share of right answers over all batches of images (N, C, H, W) and targets; see `interp_core.training.right`."""
    found = [right(predict(network, images), targets) for images, targets, _ in batches]
    return torch.cat(found).mean().item() if found else float("nan")


def _save(network: nn.Module, facts: dict[str, Any], cell: TrainCell, store: Store) -> None:
    weights = store.folder / "models" / f"{cell.key}.safetensors"
    with written(weights) as path:
        save_model(network, str(path))
    # Last, so that a description always has its weights.
    description = {"model": cell.model.model_dump(mode="json"), "facts": facts}
    write_to(weights.with_suffix(".json"), json.dumps(description, indent=1) + "\n")


def correct_everywhere(
    networks: Iterable[nn.Module],
    batches: Iterable[tuple[Tensor, Tensor, np.ndarray]],
    most: int,
    *,
    multi_label: bool = False,
) -> np.ndarray:
    """Indices of the first `most` images that every network classifies correctly; batches after them are not asked for.

    Args:
        networks: in evaluation mode.
        batches: images (N, C, H, W) as the networks take them, targets (N,), and indices (N,), which are returned.
        most: images wanted.
        multi_label: whether a positive logit of the target is correct, and not the highest one.

    Raises:
        ConfigError: there is none.
    """
    networks, chosen = list(networks), np.empty(0, np.int64)
    for images, targets, numbers in batches:
        kept = torch.ones(len(targets), dtype=torch.bool)
        for network in networks:
            logits = predict(network, images)
            kept &= logits.gather(1, targets[:, None])[:, 0] > 0 if multi_label else logits.argmax(1) == targets
        chosen = np.concatenate([chosen, numbers[kept.numpy()]])[:most]
        if len(chosen) == most:
            break
    if len(chosen) == 0:
        raise ConfigError("no test image is classified correctly by every network: train longer (recipe.epochs)")
    return chosen

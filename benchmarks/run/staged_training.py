"""Train a network in stages, and record what each stage was and what it cost.

An interrupted stage goes on from its checkpoint. Checkpoints of finished stages stay until the network is stored, so
that a finished stage is restored and not trained again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.plan.stages import TrainingStage
from interp_core.training import Callback, Epoch, Regions, Source, evaluate, fit
from interp_core.training.modes import freeze_excluded

LabelledImages = tuple[Tensor | Source, Tensor]


class StepTimer(Callback):
    """Timer of training steps, without validation and without the first step of an epoch.

    Args:
        steps: number of steps in an epoch.
        device: synchronised before the clock is read.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps, self.device = steps, device
        self.means: list[float] = []
        self._begin = 0.0

    def step(self, done: int) -> None:
        """Read the clock after the first and the last step of an epoch. See `Callback`."""
        step_in_epoch = (done - 1) % self.steps + 1
        if step_in_epoch not in (1, self.steps) or self.steps == 1:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if step_in_epoch == 1:
            self._begin = now
        elif self._begin:
            self.means.append((now - self._begin) / (self.steps - 1))

    @property
    def seconds(self) -> float | None:
        """Median over epochs of the mean duration of a step; None if no epoch has two steps."""
        return statistics.median(self.means) if self.means else None


def train_in_stages(
    network: nn.Module,
    stages: Sequence[TrainingStage],
    training: LabelledImages,
    regions: Sequence[Regions],
    checkpoints: Sequence[Path | None],
    *,
    seed: int,
    names: Sequence[str],
    validation: LabelledImages | None,
    progress: Callable[[Epoch], None],
) -> list[dict[str, Any]]:
    """Train a network in place, and return a record of each stage as plain data.

    Args:
        network: on its device.
        stages: run one after another.
        training: images and targets.
        regions: region masks of each stage.
        checkpoints: path of each stage's checkpoint; None for none.
        seed: added to that of each recipe.
        names: of the classes.
        validation: images and targets.
        progress: called after each epoch.

    Raises:
        ContractError: nothing would learn in one of the stages; none has been trained then.
    """
    for stage in stages:
        if stage.recipe.epochs:
            with freeze_excluded(network, stage.recipe):
                pass
    records = []
    for stage, masks, checkpoint in zip(stages, regions, checkpoints, strict=True):
        recipe = stage.recipe.model_copy(update={"seed": stage.recipe.seed + seed})
        timer = StepTimer(max(1, len(training[0]) // recipe.batch_size), next(network.parameters()).device)
        history = fit(
            network,
            *training,
            recipe=recipe,
            terms=stage.terms,
            regions=masks,
            names=names,
            validation=validation,
            progress=[progress, timer],
            checkpoint=checkpoint,
        )
        val_accuracy = _val_accuracy(network, stage, history, validation)
        records.append(_describe_stage(stage, masks, history, timer, val_accuracy))
    return records


def _val_accuracy(
    network: nn.Module, stage: TrainingStage, history: Sequence[Epoch], validation: LabelledImages | None
) -> float | None:
    """Return the validation accuracy of the final weights; early stopping may have restored earlier ones."""
    if history and stage.recipe.patience is None:
        return history[-1].val_accuracy
    return evaluate(network, *validation) if validation else None


def _describe_stage(
    stage: TrainingStage, masks: Regions, history: Sequence[Epoch], timer: StepTimer, val_accuracy: float | None
) -> dict[str, Any]:
    return {
        "mode": stage.recipe.mode,
        "terms": [term.name for term in stage.terms],
        "regions": {name: len(indices) for name, (indices, _) in masks.items()},
        "epochs": len(history),
        "steps": len(history) * timer.steps,
        "seconds": round(history[-1].seconds, 2) if history else 0.0,
        "step_seconds": None if timer.seconds is None else round(timer.seconds, 6),
        "val_accuracy": val_accuracy,
        "history": [vars(epoch) for epoch in history],
    }

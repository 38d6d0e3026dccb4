"""Trains a network stage by stage, and says of each stage what it was and what it cost.

A stage that was broken off goes on from its checkpoint. Those of the stages before stay until the network is stored:
a stage that is done is then put back from its own and not trained again.
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

Known = tuple[Tensor | Source, Tensor]


class StepTimer(Callback):
    """Seconds a step takes, without validation and without the first step of an epoch.

    Args:
        steps: of an epoch.
        device: waited for before the clock is read.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps, self.device = steps, device
        self.means: list[float] = []
        self._begin = 0.0

    def step(self, done: int) -> None:
        """See `Callback`."""
        place = (done - 1) % self.steps + 1
        if place not in (1, self.steps) or self.steps == 1:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if place == 1:
            self._begin = now
        elif self._begin:
            self.means.append((now - self._begin) / (self.steps - 1))

    @property
    def seconds(self) -> float | None:
        """Median over epochs of the mean step; None where no epoch has two steps."""
        return statistics.median(self.means) if self.means else None


def train_in_stages(
    network: nn.Module,
    stages: Sequence[TrainingStage],
    known: Known,
    regions: Sequence[Regions],
    checkpoints: Sequence[Path | None],
    *,
    seed: int,
    names: Sequence[str],
    validation: Known | None,
    progress: Callable[[Epoch], None],
) -> list[dict[str, Any]]:
    """Train a network in place; what is known of each stage, as plain data.

    Args:
        network: on its device.
        stages: how, one after another.
        known: training images and targets.
        regions: of each stage.
        checkpoints: of each stage; None for none.
        seed: added to that of each recipe.
        names: of the classes.
        validation: images and targets.
        progress: called after each epoch.

    Raises:
        ContractError: nothing of the network would learn in one of the stages; none has been trained then.
    """
    for stage in stages:
        if stage.recipe.epochs:
            with freeze_excluded(network, stage.recipe):
                pass
    facts = []
    for stage, masks, checkpoint in zip(stages, regions, checkpoints, strict=True):
        recipe = stage.recipe.model_copy(update={"seed": stage.recipe.seed + seed})
        pace = StepTimer(max(1, len(known[0]) // recipe.batch_size), next(network.parameters()).device)
        told: dict[str, Any] = {"terms": stage.terms, "regions": masks, "names": names, "validation": validation}
        history = fit(network, *known, recipe=recipe, progress=[progress, pace], checkpoint=checkpoint, **told)
        facts.append(_facts(stage, masks, history, pace, _accuracy(network, stage, history, validation)))
    return facts


def _accuracy(
    network: nn.Module, stage: TrainingStage, history: Sequence[Epoch], validation: Known | None
) -> float | None:
    """On validation images, of the weights that are left; early stopping puts earlier ones back than the last."""
    if history and stage.recipe.patience is None:
        return history[-1].val_accuracy
    return evaluate(network, *validation) if validation else None


def _facts(
    stage: TrainingStage, masks: Regions, history: Sequence[Epoch], pace: StepTimer, accuracy: float | None
) -> dict[str, Any]:
    return {
        "mode": stage.recipe.mode,
        "terms": [term.name for term in stage.terms],
        "regions": {name: len(indices) for name, (indices, _) in masks.items()},
        "epochs": len(history),
        "steps": len(history) * pace.steps,
        "seconds": round(history[-1].seconds, 2) if history else 0.0,
        "step_seconds": None if pace.seconds is None else round(pace.seconds, 6),
        "val_accuracy": accuracy,
        "history": [vars(epoch) for epoch in history],
    }

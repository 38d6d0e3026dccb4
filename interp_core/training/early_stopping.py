"""Early stopping: the best weights so far by validation, and the number of epochs since."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from interp_core.training.callbacks import Epoch
from interp_core.training.recipe import Recipe


class EarlyStopping:
    """Weights of the best epoch and the rule to stop by; without `patience` in the recipe, neither.

    Args:
        recipe: has patience and metric.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.patience, self.metric = recipe.patience, recipe.metric
        self.best, self.stale = math.inf, 0
        self.weights: dict[str, Tensor] | None = None

    @property
    def needs_loss(self) -> bool:
        """True if the loss on validation images decides."""
        return self.patience is not None and self.metric == "loss"

    @property
    def should_stop(self) -> bool:
        """True if training should end."""
        return self.patience is not None and self.stale >= self.patience

    def update(self, epoch: Epoch, model: nn.Module) -> None:
        """Compare an epoch's validation with the best; of equal epochs the first is kept."""
        if self.patience is None:
            return
        score = epoch.val_loss if self.metric == "loss" else epoch.val_accuracy
        cost = math.nan if score is None else score if self.metric == "loss" else -score
        if cost < self.best:
            self.best, self.stale = cost, 0
            self.weights = {key: tensor.detach().cpu().clone() for key, tensor in model.state_dict().items()}
        else:
            self.stale += 1

    def restore(self, model: nn.Module) -> None:
        """Load the best weights into the model."""
        if self.weights is not None:
            model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"best": self.best, "stale": self.stale, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state from a checkpoint."""
        self.best, self.stale, self.weights = state["best"], state["stale"], state["weights"]

"""Early stopping: the best weights so far, by validation, and for how long there were no better ones."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from interp_core.training.callbacks import Epoch
from interp_core.training.recipe import Recipe


class Patience:
    """Keeps the weights of the best epoch; does nothing where the recipe asks for no early stopping.

    Args:
        recipe: after how many epochs, and by what metric.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.patience, self.metric = recipe.patience, recipe.metric
        self.best, self.stale = math.inf, 0
        self.weights: dict[str, Tensor] | None = None

    @property
    def wants_loss(self) -> bool:
        """Whether it judges by the loss on validation images."""
        return self.patience is not None and self.metric == "loss"

    @property
    def over(self) -> bool:
        """Whether training should end."""
        return self.patience is not None and self.stale >= self.patience

    def look(self, epoch: Epoch, model: nn.Module) -> None:
        """Take note of an epoch's validation; of epochs alike the first is kept."""
        if self.patience is None:
            return
        found = epoch.val_loss if self.metric == "loss" else epoch.val_accuracy
        value = math.nan if found is None else found if self.metric == "loss" else -found
        if value < self.best:
            self.best, self.stale = value, 0
            self.weights = {key: tensor.detach().cpu().clone() for key, tensor in model.state_dict().items()}
        else:
            self.stale += 1

    def restore(self, model: nn.Module) -> None:
        """Put the best weights back."""
        if self.weights is not None:
            model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"best": self.best, "stale": self.stale, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.stale, self.weights = state["best"], state["stale"], state["weights"]

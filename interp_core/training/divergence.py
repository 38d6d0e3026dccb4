"""Stop a training whose loss is no longer a number, or grows without bound.

A step is judged one step late, when its losses have been computed anyway, so that a GPU never waits for the check.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from interp_core.errors import DivergenceError

GROWTH = 1e5  # of the first loss: no training that converges comes near it
MAX_IMAGES_NAMED = 10


class LossGuard:
    """Check of the losses of each step.

    Args:
        learning_rate: of the recipe, for the message.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self._first: float | None = None
        self._pending: tuple[int, dict[str, Tensor], Tensor, Tensor] | None = None

    def add(self, step: int, losses: Mapping[str, Tensor], images: Tensor, indices: Tensor) -> None:
        """Check the step before, and keep the losses of this one.

        Args:
            step: number of the step, from 1.
            losses: scalars by name.
            images: (n, C, H, W) of the step.
            indices: (n,) numbers of the images among the training images.

        Raises:
            DivergenceError: the step before diverged.
        """
        self.check()
        self._pending = step, {name: value.detach() for name, value in losses.items()}, images, indices

    def check(self) -> None:
        """Check the last step.

        Raises:
            DivergenceError: its loss is not finite, or exceeds the first one by more than `GROWTH`.
        """
        if self._pending is None:
            return
        step, losses, images, indices = self._pending
        self._pending = None
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        loss = sum(values.values())
        self._first = loss if self._first is None else self._first
        if not math.isfinite(loss):
            raise DivergenceError(describe_divergence(step, values, images, indices, self.learning_rate))
        if loss > GROWTH * max(1.0, self._first):
            raise DivergenceError(
                f"training diverged at step {step}: the loss is {loss:.3g} and was {self._first:.3g} at first; "
                f"{_remedy(self.learning_rate)}"
            )


def check_weights(model: nn.Module) -> None:
    """Check that all parameters of a network are finite.

    Raises:
        DivergenceError: some are not.
    """
    broken = [name for name, values in model.named_parameters() if not bool(torch.isfinite(values).all())]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise DivergenceError(
            f"the weights {broken[0]}{more} hold NaN or infinite values: lower learning_rate in training or load other "
            "weights"
        )


def describe_divergence(
    step: int, losses: Mapping[str, float], images: Tensor, indices: Tensor, learning_rate: float
) -> str:
    """Describe a loss that is not finite: the images if they are to blame, else the terms.

    Args:
        step: number of the step, from 1.
        losses: by name.
        images: (n, C, H, W) of the step.
        indices: (n,) numbers of the images among the training images.
        learning_rate: of the recipe.
    """
    broken = indices[~torch.isfinite(images).flatten(1).all(1)].tolist()
    if broken:
        names = ", ".join(map(str, sorted(broken)[:MAX_IMAGES_NAMED]))
        return f"training images {names} (counted from 0) hold NaN or infinite values: leave them out or fix them"
    terms = ", ".join(f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value))
    return f"training diverged at step {step}: the loss is NaN or infinite ({terms or 'their sum'}); " + _remedy(
        learning_rate
    )


def _remedy(learning_rate: float) -> str:
    return f"lower learning_rate (now {learning_rate:g}), or set clip=1 in the recipe"

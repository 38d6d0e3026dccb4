"""Time a training step of each arm as a ratio to that of the plain network.

Steps are timed in turn, plain, arm, plain, arm, ..., on the same batch, so that whatever slows the machine slows both.
The ratio is the median of the pairs, with their quartiles. If an arm knows the masks of few images, its batch holds as
many of these as its batches do on average, at least one. If an arm trains a detector first or refines its map
afterwards, the steps between are timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.speed.pairs import TimedWork, paired_ratios, quartiles
from benchmarks.studies.shortcut.arms import ShortcutArm
from benchmarks.studies.shortcut.data import TaggedData
from interp_core.lap.model import LapModel
from interp_core.training import Recipe, initialise_attention, step_losses
from interp_core.training.modes import parameter_groups, set_memory_format

WARM_UP = 3


@dataclass(frozen=True)
class StepCost:
    """Seconds of a training step over those of the plain network.

    Attributes:
        ratio: median over the pairs.
        q1: lower quartile.
        q3: upper quartile.
        seconds: of a plain step.
    """

    ratio: float
    q1: float
    q3: float
    seconds: float


def measure_cost(arm: ShortcutArm, plain: ShortcutArm, data: TaggedData, recipe: Recipe, pairs: int) -> StepCost:
    """Time an arm against the plain one.

    Args:
        arm: the arm to time.
        plain: the arm it is compared with.
        data: images of the steps.
        recipe: size of batches and rates.
        pairs: steps of each that count.
    """
    reference, numerator = TimedWork(make_step(plain, data, recipe)), TimedWork(make_step(arm, data, recipe))
    for _ in range(WARM_UP + pairs):
        reference()
        numerator()
    plain_seconds, arm_seconds = reference.seconds[WARM_UP:], numerator.seconds[WARM_UP:]
    q1, ratio, q3 = quartiles(paired_ratios(plain_seconds, arm_seconds))
    return StepCost(ratio, q1, q3, quartiles(plain_seconds)[1])


def make_step(arm: ShortcutArm, data: TaggedData, recipe: Recipe) -> Callable[[], object]:
    """Return a function that takes one training step of a fresh network, always on the same images."""
    train = data.splits["train"]
    network = arm.network(data.classes, 0, train.images.shape[-1])
    set_memory_format(network, recipe)
    _prepare(network, recipe)
    optimizer = torch.optim.AdamW(parameter_groups(network, recipe))
    rows = torch.arange(recipe.batch_size)
    images = train.images[rows].contiguous(memory_format=torch.channels_last)
    regions, generator = _batch_regions(arm, data, recipe), torch.Generator().manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        losses = step_losses(network, images, train.targets[rows], arm.terms, regions=regions, generator=generator)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return step


def _prepare(network: nn.Module, recipe: Recipe) -> None:
    network.train()
    if isinstance(network, LapModel) and recipe.start_a is not None:
        initialise_attention(network, recipe.start_a)


def _batch_regions(arm: ShortcutArm, data: TaggedData, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Return the regions of the batch, NaN except for its first images."""
    if arm.region is None:
        return {}
    train = data.splits["train"]
    masks = (train.tags if arm.region == "irrelevant" else train.masks)[: recipe.batch_size].float()
    if not arm.uses_detector:
        count = round(arm.share * len(train))
        per_batch = recipe.batch_size * count * arm.copies / (len(train) + count * (arm.copies - 1))
        masks[max(1, round(per_batch)) :] = torch.nan
    return {arm.region: masks}

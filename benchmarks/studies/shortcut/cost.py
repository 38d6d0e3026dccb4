"""What a training step of each arm costs, as a ratio to that of the plain network.

Steps are timed in turn, plain, arm, plain, arm, ..., on the same batch, so that whatever slows the machine slows both;
the ratio is the median of the pairs, with their quartiles. A batch of an arm that is told about few images holds as
many of them as its batches do on average, and one at least. Of an arm that finds regions first or refines its map
afterwards, the steps between are timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.speed.pairs import TimedWork, paired_ratios, quartiles
from benchmarks.studies.shortcut.arms import Arm
from benchmarks.studies.shortcut.data import Material
from interp_core.lap.model import LapModel
from interp_core.training import Recipe, initialise_attention, step_losses
from interp_core.training.modes import parameter_groups, set_memory_format

WARM_UP = 3


@dataclass(frozen=True)
class Cost:
    """Seconds per training step over those of the plain network.

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


def cost(arm: Arm, plain: Arm, material: Material, recipe: Recipe, pairs: int) -> Cost:
    """Time an arm against the plain one.

    Args:
        arm: what is timed.
        plain: what it is compared with.
        material: whose images are stepped on.
        recipe: size of batches and rates.
        pairs: steps of each that count.
    """
    reference, measured = TimedWork(stepper(plain, material, recipe)), TimedWork(stepper(arm, material, recipe))
    for _ in range(WARM_UP + pairs):
        reference()
        measured()
    seconds, own = reference.seconds[WARM_UP:], measured.seconds[WARM_UP:]
    q1, ratio, q3 = quartiles(paired_ratios(seconds, own))
    return Cost(ratio, q1, q3, quartiles(seconds)[1])


def stepper(arm: Arm, material: Material, recipe: Recipe) -> Callable[[], object]:
    """A function that makes one training step of a fresh network of the arm, always on the same images."""
    train = material.parts["train"]
    network = arm.network(material.classes, 0, train.images.shape[-1])
    set_memory_format(network, recipe)
    _start(network, recipe)
    optimizer = torch.optim.AdamW(parameter_groups(network, recipe))
    rows = torch.arange(recipe.batch_size)
    images = train.images[rows].contiguous(memory_format=torch.channels_last)
    regions, generator = _regions(arm, material, recipe), torch.Generator().manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        losses = step_losses(network, images, train.targets[rows], arm.terms, regions=regions, generator=generator)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return step


def _start(network: nn.Module, recipe: Recipe) -> None:
    network.train()
    if isinstance(network, LapModel) and recipe.start_a is not None:
        initialise_attention(network, recipe.start_a)


def _regions(arm: Arm, material: Material, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Regions of the batch, NaN but for its first images."""
    if arm.told is None:
        return {}
    train = material.parts["train"]
    masks = (train.tags if arm.told == "irrelevant" else train.masks)[: recipe.batch_size].float()
    if not arm.finds:
        count = round(arm.share * len(train))
        held = recipe.batch_size * count * arm.copies / (len(train) + count * (arm.copies - 1))
        masks[max(1, round(held)) :] = torch.nan
    return {arm.told: masks}

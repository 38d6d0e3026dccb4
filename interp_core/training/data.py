"""What training reads: images in memory or made on request, targets, and regions for the few images that have one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from interp_core.errors import ContractError
from interp_core.training.augment import Moves, drawn, in_mosaics
from interp_core.training.recipe import Recipe

Regions = Mapping[str, tuple[Tensor, Tensor]]


class Source(Protocol):
    """Images that are made when they are asked for, where they do not fit into memory at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __len__(self) -> int: ...

    def batches(self, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each of `chosen` (n,) int64 the indices of images there are (m,), and these images (m, C, H, W)."""


def batches_of(images: Tensor | Source, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each of `chosen` (n,) int64 the indices of images there are (m,), and these images (m, C, H, W)."""
    if isinstance(images, Tensor):
        return ((indices, images[indices]) for indices in chosen)
    return images.batches(chosen)


def all_batches(images: Tensor | Source, chosen: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """`batches_of`, but an empty batch for those that a source leaves out, so that batches keep their numbers."""
    found = batches_of(images, chosen)
    made = next(found, None)
    nothing = torch.empty(0, dtype=torch.int64), torch.empty(0, *images.shape[1:])
    for indices in chosen:
        if made is not None and (len(made[0]) == 0 or bool((indices == made[0][0]).any())):
            yield made
            made = next(found, None)
        else:
            yield nothing


@dataclass(frozen=True)
class Batch:
    """What one process sees of one step, on the CPU.

    Attributes:
        images: (n, C, H, W), moved.
        targets: (n,) or (n, K).
        regions: (n, 1, H, W) by name, moved likewise; rows of NaN for images that have none.
        share: part of the step's images that this stands for, in (0, 1].
    """

    images: Tensor
    targets: Tensor
    regions: dict[str, Tensor]
    share: float

    def parts(self, count: int) -> list[Batch]:
        """About `count` parts of at least two images each."""
        count = max(1, min(count, len(self.images) // 2))
        if count == 1:
            return [self]
        return [
            Batch(
                self.images[rows],
                self.targets[rows],
                {name: masks[rows] for name, masks in self.regions.items()},
                self.share * len(rows) / len(self.images),
            )
            for rows in torch.arange(len(self.images)).tensor_split(count)
        ]


class RegionTable:
    """Masks of a few of N images.

    Args:
        name: in messages.
        count: N.
        indices: (n,) of the images that have one, each once.
        masks: (n, 1, H, W) bool, or floating point in [0, 1].
        size: H and W of the images.

    Raises:
        ContractError: these do not fit each other.
    """

    def __init__(self, name: str, count: int, indices: Tensor, masks: Tensor, size: Sequence[int]) -> None:
        fits = masks.shape == (len(indices), 1, *size) and indices.ndim == 1 and not indices.is_floating_point()
        if not fits or len(indices.unique()) < len(indices) or not bool(((indices >= 0) & (indices < count)).all()):
            raise ContractError(
                f"region {name!r} must be indices (n,) of images, each once and below {count}, and masks "
                f"(n, 1, {size[0]}, {size[1]}); got {tuple(indices.shape)} and {tuple(masks.shape)}"
            )
        self.masks = masks
        self.row = torch.full((count,), -1)
        self.row[indices] = torch.arange(len(indices))

    def of(self, chosen: Tensor) -> Tensor:
        """Masks (m, 1, H, W) float of images (m,); NaN for those that have none."""
        rows = self.row[chosen]
        found = torch.full((len(chosen), *self.masks.shape[1:]), torch.nan)
        found[rows >= 0] = self.masks[rows[rows >= 0]].to(found)
        return found


class TrainingSet:
    """Training images, targets and regions, handed out in the steps of an epoch.

    Args:
        images: (N, C, H, W), or a source of them.
        targets: (N,) or (N, K).
        regions: indices of images and their masks, by name.
        recipe: size of batches and augmentation.
        rank: number of this process.
        world: how many processes share each step.

    Raises:
        ContractError: they do not fit each other.
    """

    def __init__(
        self, images: Tensor | Source, targets: Tensor, regions: Regions, recipe: Recipe, rank: int, world: int
    ) -> None:
        check(images, targets, recipe, world)
        if recipe.mosaics and (regions or targets.ndim == 2):
            raise ContractError("mosaics are for one class an image and without regions: set `mosaics` to 0")
        if recipe.answers and targets.ndim == 2:
            raise ContractError("answers are for one class an image: set `answers` to false")
        self.images, self.targets, self.recipe, self.rank, self.world = images, targets, recipe, rank, world
        self.regions = {
            name: RegionTable(name, len(images), *given, images.shape[2:]) for name, given in regions.items()
        }
        self.steps = len(images) // recipe.batch_size

    def epoch(
        self, order: Tensor, first: int, generator: torch.Generator, agree: Callable[[bool], bool]
    ) -> Iterator[Batch | None]:
        """The steps of an epoch; None for one too few of whose images can be read.

        Args:
            order: (N,) of the images.
            first: steps before this one are left out.
            generator: of the augmentation; drawn from when a step is asked for.
            agree: whether all processes say yes.
        """
        size = self.recipe.batch_size
        batches = order[: self.steps * size].split(size)[first:]
        own = [batch.tensor_split(self.world)[self.rank] for batch in batches]
        for batch, part, (kept, some) in zip(batches, own, all_batches(self.images, own), strict=True):
            # What is left of a batch of unreadable files has no statistics.
            enough = isinstance(self.images, Tensor) or agree(len(some) >= 2)
            yield self._batch(batch, part, kept, some, generator) if enough else None

    def _batch(self, batch: Tensor, part: Tensor, kept: Tensor, some: Tensor, generator: torch.Generator) -> Batch:
        moves = self._moves(batch, kept, generator)
        regions = {name: moves(table.of(kept)) for name, table in self.regions.items()}
        images, targets = moves(some), self.targets[kept]
        if self.recipe.mosaics:
            images = in_mosaics(images, targets, self.recipe.mosaics, generator)
        return Batch(images, targets, regions, len(part) / len(batch))

    def _moves(self, batch: Tensor, kept: Tensor, generator: torch.Generator) -> Moves:
        """Of several processes each draws for all, so that their generators stay alike."""
        draw = (self.recipe.shift, self.recipe.flip, generator, self.recipe.crop)
        if self.world == 1:
            return drawn(len(kept), *draw)
        return drawn(len(batch), *draw).of(torch.isin(batch, kept).nonzero()[:, 0])


def check(images: Tensor | Source, targets: Tensor, recipe: Recipe, world: int = 1) -> None:
    """Whether images and targets fit each other and give a step at least.

    Raises:
        ContractError: they do not.
    """
    several = targets.ndim == 2 and targets.is_floating_point()
    one = targets.ndim == 1 and not targets.is_floating_point()
    if len(images.shape) != 4 or len(targets) != len(images) or not (one or several):
        raise ContractError(
            f"fit takes images (N, C, H, W) and integer targets (N,), or targets (N, K) in floating point, got "
            f"{tuple(images.shape)} and {targets.dtype} {tuple(targets.shape)}"
        )
    if len(images) < recipe.batch_size:
        raise ContractError(f"{len(images)} training images are fewer than one batch of {recipe.batch_size}")
    if recipe.batch_size < 2 * world * recipe.accumulate:
        raise ContractError(
            f"a batch of {recipe.batch_size} in {world} processes x {recipe.accumulate} parts leaves fewer than 2 "
            "images to one: raise batch_size"
        )

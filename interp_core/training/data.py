"""Training data: images in memory or from a source, targets, and masks for some of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from interp_core.errors import ContractError
from interp_core.training.augment import Moves, make_mosaics, sample_moves
from interp_core.training.recipe import Recipe

Regions = Mapping[str, tuple[Tensor, Tensor]]


class Source(Protocol):
    """Images that are read batch by batch, where they do not fit into memory at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __len__(self) -> int: ...

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a batch for each tensor of image indices (n,) int64.

        A batch is the indices of the images that can be read (m,), and these images (m, C, H, W).
        """


def batches_of(images: Tensor | Source, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a batch of indices (m,) and images (m, C, H, W) for each tensor of indices; see `Source.batches`."""
    if isinstance(images, Tensor):
        return ((batch, images[batch]) for batch in indices)
    return images.batches(indices)


def all_batches(images: Tensor | Source, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield exactly one batch for each tensor of indices: an empty one where a source skips it."""
    readable_batches = batches_of(images, indices)
    batch = next(readable_batches, None)
    empty = torch.empty(0, dtype=torch.int64), torch.empty(0, *images.shape[1:])
    for expected in indices:
        if batch is not None and (len(batch[0]) == 0 or bool((expected == batch[0][0]).any())):
            yield batch
            batch = next(readable_batches, None)
        else:
            yield empty


@dataclass(frozen=True)
class Batch:
    """Images of one step for one process, on the CPU.

    Attributes:
        images: (n, C, H, W), after augmentation.
        targets: (n,) or (n, K).
        regions: (n, 1, H, W) by name, moved like the images; rows of NaN for images without a mask.
        share: part of the step's images that this batch counts for, in (0, 1].
        indices: (n,) numbers of the images among the training images.
    """

    images: Tensor
    targets: Tensor
    regions: dict[str, Tensor]
    share: float
    indices: Tensor

    def split(self, count: int) -> list[Batch]:
        """Split into about `count` batches of at least two images each."""
        count = max(1, min(count, len(self.images) // 2))
        if count == 1:
            return [self]
        return [
            Batch(
                self.images[rows],
                self.targets[rows],
                {name: masks[rows] for name, masks in self.regions.items()},
                self.share * len(rows) / len(self.images),
                self.indices[rows],
            )
            for rows in torch.arange(len(self.images)).tensor_split(count)
        ]


class RegionTable:
    """Masks of some of N images.

    Args:
        name: name of the region, for error messages.
        count: N.
        indices: (n,) indices of the images with a mask, each once.
        masks: (n, 1, H, W) bool, or floating point in [0, 1].
        size: H and W of the images.

    Raises:
        ContractError: indices and masks do not match each other or the images.
    """

    def __init__(self, name: str, count: int, indices: Tensor, masks: Tensor, size: Sequence[int]) -> None:
        fits = masks.shape == (len(indices), 1, *size) and indices.ndim == 1 and not indices.is_floating_point()
        if (
            not fits
            or len(set(indices.tolist())) < len(indices)
            or not bool(((indices >= 0) & (indices < count)).all())
        ):
            raise ContractError(
                f"region {name!r} must be indices (n,) of images, each once and below {count}, and masks "
                f"(n, 1, {size[0]}, {size[1]}); got {tuple(indices.shape)} and {tuple(masks.shape)}"
            )
        self.masks = masks
        self.row = torch.full((count,), -1)
        self.row[indices] = torch.arange(len(indices))

    def masks_of(self, indices: Tensor) -> Tensor:
        """Return masks (m, 1, H, W) float of images (m,); NaN for images without one."""
        rows = self.row[indices]
        masks = torch.full((len(indices), *self.masks.shape[1:]), torch.nan)
        masks[rows >= 0] = self.masks[rows[rows >= 0]].to(masks)
        return masks


class TrainingSet:
    """Training images, targets and regions, in the steps of an epoch.

    Args:
        images: (N, C, H, W), or a source of them.
        targets: (N,) or (N, K).
        regions: indices of images and their masks, by name.
        recipe: batch size and augmentation.
        rank: index of this process.
        world: number of processes that share each step.

    Raises:
        ContractError: images, targets, regions and recipe do not match.
    """

    def __init__(
        self, images: Tensor | Source, targets: Tensor, regions: Regions, recipe: Recipe, rank: int, world: int
    ) -> None:
        check_data(images, targets, recipe, world)
        if recipe.mosaics and (regions or targets.ndim == 2):
            raise ContractError("mosaics need one class an image and no regions: set `mosaics` to 0")
        if recipe.answers and targets.ndim == 2:
            raise ContractError("answers need one class an image: set `answers` to false")
        self.images, self.targets, self.recipe, self.rank, self.world = images, targets, recipe, rank, world
        self.regions = {
            name: RegionTable(name, len(images), indices, masks, images.shape[2:])
            for name, (indices, masks) in regions.items()
        }
        self.steps = len(images) // recipe.batch_size

    def epoch(
        self, order: Tensor, first: int, generator: torch.Generator, agree: Callable[[bool], bool]
    ) -> Iterator[Batch | None]:
        """Yield the batches of an epoch; None for a step with too few readable images.

        Args:
            order: (N,) order of the images.
            first: first step to yield.
            generator: generator of the augmentation; used when a step is yielded.
            agree: function that returns whether all processes pass True.
        """
        size = self.recipe.batch_size
        batches = torch.split(order[: self.steps * size], size)[first:]
        shares = [batch.tensor_split(self.world)[self.rank] for batch in batches]
        for batch, share, (indices, images) in zip(batches, shares, all_batches(self.images, shares), strict=True):
            # Batch norms need at least two readable images in every process.
            enough = isinstance(self.images, Tensor) or agree(len(images) >= 2)
            yield self._augment(batch, len(share) / len(batch), indices, images, generator) if enough else None

    def _augment(
        self, batch: Tensor, share: float, indices: Tensor, images: Tensor, generator: torch.Generator
    ) -> Batch:
        moves = self._sample_moves(batch, indices, generator)
        regions = {name: moves(table.masks_of(indices)) for name, table in self.regions.items()}
        images, targets = moves(images), self.targets[indices]
        if self.recipe.mosaics:
            images = make_mosaics(images, targets, self.recipe.mosaics, generator)
        return Batch(images, targets, regions, share, indices)

    def _sample_moves(self, batch: Tensor, indices: Tensor, generator: torch.Generator) -> Moves:
        """Draw moves for the readable images; every process draws for all, so that generators stay equal."""
        options = (self.recipe.shift, self.recipe.flip, generator, self.recipe.crop)
        if self.world == 1:
            return sample_moves(len(indices), *options)
        return sample_moves(len(batch), *options).select(torch.isin(batch, indices).nonzero()[:, 0])


def check_data(images: Tensor | Source, targets: Tensor, recipe: Recipe, world: int = 1) -> None:
    """Check that images and targets match and suffice for one step.

    Raises:
        ContractError: they do not.
    """
    multi_label = targets.ndim == 2 and targets.is_floating_point()
    single_label = targets.ndim == 1 and not targets.is_floating_point()
    if len(images.shape) != 4 or len(targets) != len(images) or not (single_label or multi_label):
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

"""Images that are changed as they are read, in the form that `interp_core.fit` takes.

Training images are drawn anew in each epoch. Validation images are changed in the same way every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.diagnosis.repairs.support.cues import Cues, remove
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets import Images

# From images (n, 3, H, W) in [0, 1], their indices (n,) and a generator to changed images.
PixelEdit = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def leave(pixels: Tensor, _rows: Tensor, _generator: torch.Generator) -> Tensor:
    """Return the images as they are."""
    return pixels


class Turned:
    """Edit that mirrors and turns square images at random, after another edit.

    Args:
        edit: comes first.
    """

    def __init__(self, edit: PixelEdit) -> None:
        self.edit = edit

    def __call__(self, pixels: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Change images (n, 3, H, W) with indices (n,); images that are not square are mirrored only."""
        changed = self.edit(pixels, rows, generator)
        coins = torch.rand(3, len(changed), 1, 1, 1, generator=generator) < 0.5
        changed = torch.where(coins[0], changed.flip(3), changed)
        changed = torch.where(coins[1], changed.flip(2), changed)
        return torch.where(coins[2], changed.mT, changed) if changed.shape[2] == changed.shape[3] else changed


class CueRemoval:
    """Edit that in-paints the cues of images.

    Args:
        cues: of the images.
    """

    def __init__(self, cues: Cues) -> None:
        self.cues = cues

    def __call__(self, pixels: Tensor, rows: Tensor, _generator: torch.Generator) -> Tensor:
        """In-paint the cues of images (n, 3, H, W) with indices (n,)."""
        return remove(pixels, self.cues.masks_of(rows))


class EditedImages:
    """Source of changed and normalised images.

    Args:
        subject: normalises.
        images: of a data set.
        edit: change of each batch.
        seed: of the edit's draws.
        fresh: whether each pass over the images draws anew.
    """

    def __init__(
        self, subject: Subject, images: Images, edit: PixelEdit = leave, *, seed: int = 0, fresh: bool = True
    ) -> None:
        self.subject, self.images, self.edit, self.seed, self.fresh = subject, images, edit, seed, fresh
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 3, H, W)."""
        return (len(self.images), *self.images.shape)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each tensor of indices (n,), those that could be read and their images, changed."""
        for rows, pixels in self.edited(indices):
            yield rows, self.subject.normalise(pixels).cpu()

    def edited(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield indices and changed images in [0, 1]."""
        generator = self._generator if self.fresh else torch.Generator().manual_seed(self.seed)
        for rows, batch in self.images.batches([part.numpy() for part in indices]):
            positions = torch.from_numpy(rows)
            yield positions, self.edit(torch.from_numpy(batch.images).float() / 255, positions, generator)

"""Read the images of a pair from files, and paste the cue of one image onto another."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interp_core.errors import ContractError

Row = dict[str, str]
BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class ImageFiles:
    """Images that a CSV file lists.

    Attributes:
        root: folder of the paths.
        rows: of the CSV file.
        path_column: column of the images.
        mask_column: column of the masks of the cue; empty where an image has none.
        size: side in pixels that images and masks are squashed to.
    """

    root: Path
    rows: tuple[Row, ...]
    path_column: str
    mask_column: str
    size: int

    @classmethod
    def read(cls, root: Path, index: str, path_column: str, mask_column: str, size: int) -> ImageFiles:
        """Read the CSV file.

        Raises:
            ContractError: there is no such file, or it lacks a column.
        """
        path = root / index
        if not path.is_file():
            raise ContractError(f"{path} does not exist: give --root the folder of the images and their {index}")
        with path.open(newline="", encoding="utf-8") as file:
            rows = tuple(csv.DictReader(file))
        missing = [name for name in (path_column, mask_column) if not rows or name not in rows[0]]
        if missing:
            raise ContractError(
                f"{path} has no column {missing[0]}; it has {', '.join(rows[0]) if rows else 'no rows'}"
            )
        return cls(root, rows, path_column, mask_column, size)

    @property
    def with_masks(self) -> list[int]:
        """Numbers of the rows whose image has a mask."""
        return [number for number, row in enumerate(self.rows) if row[self.mask_column]]

    def first_rows(self, column: str, value: str, held_out: Sequence[int]) -> list[int]:
        """Return numbers of the rows among `held_out` that have a value in a column and no mask.

        Raises:
            ContractError: there is no such column.
        """
        if column not in self.rows[0]:
            raise ContractError(f"the images have no column {column}; they have {', '.join(self.rows[0])}")
        return [
            number
            for number in held_out
            if self.rows[number][column] == value and not self.rows[number][self.mask_column]
        ]

    def ids(self, numbers: Sequence[int]) -> list[str]:
        """Return names of images: their files, without folder and ending."""
        return [Path(self.rows[number][self.path_column]).stem for number in numbers]

    def images(self, numbers: Sequence[int]) -> Tensor:
        """Read images (N, 3, H, W) in [0, 1]."""
        pixels = [self._read(self.rows[number][self.path_column], "RGB") for number in numbers]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255

    def masks(self, numbers: Sequence[int]) -> np.ndarray:
        """Read the masks of the cue (N, 1, H, W) bool."""
        masks = [self._read(self.rows[number][self.mask_column], "L") > 127 for number in numbers]
        return np.stack(masks)[:, None]

    def _read(self, name: str, mode: str) -> np.ndarray:
        try:
            with Image.open(self.root / name) as image:
                return np.asarray(image.convert(mode).resize((self.size, self.size), BILINEAR))
        except OSError as error:
            raise ContractError(f"cannot read {self.root / name}: {error}") from error


def paste_cues(images: Tensor, donors: Tensor, masks: np.ndarray) -> Tensor:
    """Paste the cues of donors onto images; with fewer donors than images, donors are used again.

    Args:
        images: (N, 3, H, W).
        donors: (M, 3, H, W), images that show the cue.
        masks: (M, 1, H, W) bool, of the cue.

    Returns:
        (N, 3, H, W).
    """
    donor = torch.arange(len(images)) % len(donors)
    cue = torch.from_numpy(masks)[donor]
    return torch.where(cue, donors[donor], images)

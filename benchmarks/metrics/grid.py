"""The grid pointing game: in a mosaic of images of different classes, does the map of one class lie on its image?

No mask is needed, since the evidence for a class is in the image of that class and in no other cell. Each image gets a
mosaic with other images of its shard; their cells are drawn from the seed.

Known limits: mosaics are unlike training images. Receptive fields cross the borders of cells. The network must take
larger images. Images of a shard with too few classes have no score.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.map_ranks import positive_part


@metrics.register("grid_pg")
class GridPG(Metric):
    """Share of the positive map inside the cell of its class.

    Chance is 1 / cells^2.

    Source: Rao, Böhle and Schiele 2022, after Böhle et al. 2021; Quantus has no such metric.

    Fields:
        cells: images along each side of a mosaic.
    """

    title: ClassVar[str] = "Grid pointing game"
    family: ClassVar[Family] = "localisation"
    needs_model: ClassVar[bool] = True
    needs_explain: ClassVar[bool] = True
    scores: ClassVar[tuple[Score, ...]] = (Score("grid_pg", "Grid pointing game", "higher", 0.0, 1.0),)

    cells: int = Field(default=2, ge=2)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        members, positions = draw_mosaics(batch.targets, self.cells, batch.seed)
        values = np.full(len(batch.images), np.nan)
        if len(members):
            rows = members[np.arange(len(members)), positions]
            assert batch.explain is not None
            maps = batch.explain(batch.model, build_mosaics(batch.images, members, self.cells), batch.targets[rows])  # type: ignore[arg-type]
            values[rows] = share_in_cell(positive_part(maps.astype(np.float64)), positions, self.cells)
        return {"grid_pg": values}


def draw_mosaics(targets: np.ndarray, cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the members of a mosaic for each image.

    Images of a shard with too few classes get none.

    Args:
        targets: (N,) classes.
        cells: images along each side of a mosaic.
        seed: seed of the draws.

    Returns:
        (M, cells^2) image indices, all of different targets, and (M,) the cell of the image that the mosaic is for.
    """
    rng = np.random.default_rng(seed)
    members, positions = [], []
    for image, target in enumerate(targets):
        other_classes = [k for k in np.unique(targets) if k != target]
        if len(other_classes) < cells**2 - 1:
            continue
        classes = rng.choice(other_classes, cells**2 - 1, replace=False)
        mates = [int(rng.choice(np.flatnonzero(targets == k))) for k in classes]
        position = int(rng.integers(cells**2))
        members.append([*mates[:position], image, *mates[position:]])
        positions.append(position)
    return np.array(members, int), np.array(positions, int)


def build_mosaics(images: np.ndarray, members: np.ndarray, cells: int) -> np.ndarray:
    """Tile images (N, C, H, W) to mosaics (M, C, cells*H, cells*W).

    `members` (M, cells^2) are the indices of the images, row by row.
    """
    tiles = images[members]
    m, _, channels, height, width = tiles.shape
    rows = tiles.reshape(m, cells, cells, channels, height, width).transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(rows.reshape(m, channels, cells * height, cells * width))


def share_in_cell(maps: np.ndarray, positions: np.ndarray, cells: int) -> np.ndarray:
    """Compute the share (M,) of each map inside one cell.

    It is 0 for an empty map.

    Args:
        maps: (M, 1, cells*H, cells*W) >= 0.
        positions: (M,) index of the cell.
        cells: cells along each side.
    """
    m, _, height, width = maps.shape
    sums = maps.reshape(m, cells, height // cells, cells, width // cells).sum((2, 4)).reshape(m, -1)
    total = sums.sum(1)
    return np.divide(sums[np.arange(m), positions], total, out=np.zeros(m), where=total > 0)

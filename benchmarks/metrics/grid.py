"""The grid pointing game: in a mosaic of images of different classes, does the map of one class lie on its image?

No mask is needed: evidence for a class is in the image of that class, and in no other cell. Each image gets a mosaic
of its own with others of the same shard, the place of each drawn by the seed. Known limits: mosaics are unlike what the
network was trained on; a cell next to another is seen by both; the network must take larger images; images of a
shard that has too few classes have no score.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.map_ranks import positive_part


@metrics.register("grid_pg")
class GridPG(Metric):
    """Share of the positive part of the map, for the class of one cell, inside that cell; chance is 1 / cells^2.

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
        chosen, places = draw_mosaics(batch.targets, self.cells, batch.seed)
        values = np.full(len(batch.images), np.nan)
        if len(chosen):
            own = chosen[np.arange(len(chosen)), places]
            assert batch.explain is not None
            maps = batch.explain(batch.model, build_mosaics(batch.images, chosen, self.cells), batch.targets[own])  # type: ignore[arg-type]
            values[own] = share_in_cell(positive_part(maps.astype(np.float64)), places, self.cells)
        return {"grid_pg": values}


def draw_mosaics(targets: np.ndarray, cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of a mosaic for each image that can have one.

    Returns:
        (M, cells^2) image indices, all of different targets, and (M,) the cell in which the mosaic's own image lies.
    """
    draw = np.random.default_rng(seed)
    chosen, places = [], []
    for own, target in enumerate(targets):
        others = [k for k in np.unique(targets) if k != target]
        if len(others) < cells**2 - 1:
            continue
        classes = draw.choice(others, cells**2 - 1, replace=False)
        mates = [int(draw.choice(np.flatnonzero(targets == k))) for k in classes]
        place = int(draw.integers(cells**2))
        chosen.append([*mates[:place], own, *mates[place:]])
        places.append(place)
    return np.array(chosen, int), np.array(places, int)


def build_mosaics(images: np.ndarray, chosen: np.ndarray, cells: int) -> np.ndarray:
    """Mosaics (M, C, cells*H, cells*W) of images (N, C, H, W), row by row."""
    tiles = images[chosen]
    m, _, channels, height, width = tiles.shape
    rows = tiles.reshape(m, cells, cells, channels, height, width).transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(rows.reshape(m, channels, cells * height, cells * width))


def share_in_cell(maps: np.ndarray, places: np.ndarray, cells: int) -> np.ndarray:
    """Share (M,) of maps (M, 1, cells*H, cells*W) >= 0 that lies in the cell `places` (M,); 0 for an empty map."""
    m, _, height, width = maps.shape
    sums = maps.reshape(m, cells, height // cells, cells, width // cells).sum((2, 4)).reshape(m, -1)
    total = sums.sum(1)
    return np.divide(sums[np.arange(m), places], total, out=np.zeros(m), where=total > 0)

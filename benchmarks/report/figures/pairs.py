"""Make example strips: the image, the own explainer's map and another's, side by side as one small WebP picture.

Pixels are enlarged by whole numbers, so that nothing is blurred. The evidence is outlined in black and light blue,
which differ from every colour of the map.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from benchmarks.report.figures.gallery import overlay, scale_map
from benchmarks.report.figures.palette import OUTLINE
from benchmarks.report.figures.webp import encode_webp
from benchmarks.statistics import Example
from benchmarks.store.gallery import Gallery
from benchmarks.store.run_data import RunData

TILE = 144  # pixels, approximate side of a tile
GAP = 4


def strip(data: RunData, example: Example, own_explainer: str) -> bytes:
    """Encode (image | own map | other map) of an example as WebP.

    Raises:
        KeyError: the gallery does not hold these maps.
    """
    gallery = data.gallery
    if gallery is None:
        raise KeyError("this run has no gallery")
    index = gallery.ids.index(example.image)
    tiles = [gallery.images[index].astype(np.float64) / 255]
    for name in (own_explainer, example.explainer):
        scaled_map = scale_map(gallery.map_of(example.model, name, index), data.explainers[name].signed)
        tiles.append(_hatch(tiles[0]) if scaled_map is None else overlay(gallery.images[index], scaled_map))
    return encode_webp(np.concatenate(_with_gaps([_enlarge(tile, gallery, index) for tile in tiles]), axis=1))


def _enlarge(tile: np.ndarray, gallery: Gallery, index: int) -> np.ndarray:
    factor = max(1, round(TILE / tile.shape[0]))
    large = tile.repeat(factor, 0).repeat(factor, 1)
    mask = np.asarray(gallery.masks[index]).repeat(factor, 0).repeat(factor, 1)
    if mask.any() and not mask.all():
        large[binary_dilation(mask) & ~mask] = 0.0
        large[mask & ~binary_erosion(mask)] = [int(OUTLINE[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return large


def _hatch(tile: np.ndarray) -> np.ndarray:
    """Return a hatched tile of the same size, for a map without information."""
    y, x = np.indices(tile.shape[:2])
    stripes = np.where((x + y) % 8 < 2, 0.6, 0.93)
    return np.stack([stripes] * 3, axis=-1)


def _with_gaps(tiles: list[np.ndarray]) -> list[np.ndarray]:
    gap = np.full((tiles[0].shape[0], GAP, 3), 0.5)
    return [array for tile in tiles for array in (tile, gap)][:-1]

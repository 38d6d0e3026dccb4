"""Example strips: the image, the own explainer's map and another's, side by side as one small WebP picture.

Native pixels, enlarged by whole numbers so that nothing is blurred; evidence is outlined in black and light blue, which
can be told apart from every colour of the map.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from benchmarks.report.figures.gallery import OUTLINE, overlay, scaled
from benchmarks.report.figures.webp import encode_webp
from benchmarks.statistics import Example
from benchmarks.store.gallery import Gallery
from benchmarks.store.run_data import RunData

TILE = 144  # pixels that a tile's side comes near to
GAP = 4


def strip(data: RunData, example: Example, own: str) -> bytes:
    """WebP of (image | own map | other map) for an example whose maps are in the gallery.

    Raises:
        KeyError: they are not.
    """
    gallery = data.gallery
    if gallery is None:
        raise KeyError("this run has no gallery")
    place = gallery.ids.index(example.image)
    tiles = [gallery.images[place].astype(np.float64) / 255]
    for name in (own, example.explainer):
        shown = scaled(gallery.map_of(example.model, name, place), data.explainers[name].signed)
        tiles.append(_empty(tiles[0]) if shown is None else overlay(gallery.images[place], shown))
    return encode_webp(np.concatenate(_spaced([_enlarged(tile, gallery, place) for tile in tiles]), axis=1))


def _enlarged(tile: np.ndarray, gallery: Gallery, place: int) -> np.ndarray:
    factor = max(1, round(TILE / tile.shape[0]))
    large = tile.repeat(factor, 0).repeat(factor, 1)
    mask = np.asarray(gallery.masks[place]).repeat(factor, 0).repeat(factor, 1)
    if mask.any() and not mask.all():
        large[binary_dilation(mask) & ~mask] = 0.0
        light = [int(OUTLINE[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        large[mask & ~binary_erosion(mask)] = light
    return large


def _empty(tile: np.ndarray) -> np.ndarray:
    """A hatched tile: the map says nothing."""
    y, x = np.indices(tile.shape[:2])
    stripes = np.where((x + y) % 8 < 2, 0.6, 0.93)
    return np.stack([stripes] * 3, axis=-1)


def _spaced(tiles: list[np.ndarray]) -> list[np.ndarray]:
    gap = np.full((tiles[0].shape[0], GAP, 3), 0.5)
    return [part for tile in tiles for part in (tile, gap)][:-1]

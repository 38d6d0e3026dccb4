"""The gallery of a run: the first images under every explainer, and the telling ones of each pair.

Telling are the best, the median and the worst image of the network's own explainer against another, known only once
all is scored (`statistics.analysis.images_to_keep`). Maps are those of the first training seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.run.selection import SelectedImages
from benchmarks.store.gallery import Gallery, Pair

Maps = Callable[[Pair, int], np.ndarray | None]


def build_gallery(
    chosen: SelectedImages,
    classes: Sequence[str],
    pairs: Sequence[Pair],
    wanted: dict[Pair, list[str]],
    first: int,
    maps_of: Maps,
) -> Gallery:
    """Images and maps that the report shows.

    Args:
        chosen: the images that were explained.
        classes: names of the targets.
        pairs: (model, explainer) of the run.
        wanted: ids of further images of each pair.
        first: how many of the first images every pair shows.
        maps_of: maps (N, 1, H, W) of a pair and the shard that begins with this image; None where there are none.
    """
    number = {name: place for place, name in enumerate(chosen.ids)}
    overview = list(range(min(first, len(chosen))))
    kept: dict[Pair, dict[int, np.ndarray]] = {}
    for pair in pairs:
        further = [number[name] for name in wanted.get(pair, []) if name in number]
        found = _maps(pair, [*overview, *further], chosen.size, maps_of)
        if found:
            kept[pair] = found
    shown = sorted({*overview, *(place for found in kept.values() for place in found)})
    row = {place: i for i, place in enumerate(shown)}
    split = chosen.take(shown)
    return Gallery(
        split.images.transpose(0, 2, 3, 1),
        split.masks[:, 0],
        split.ids,
        [classes[target] for target in split.targets],
        {pair: np.stack(list(found.values())) for pair, found in kept.items()},
        {pair: np.array([row[place] for place in found]) for pair, found in kept.items()},
    )


def _maps(pair: Pair, places: Sequence[int], size: int, maps_of: Maps) -> dict[int, np.ndarray]:
    """Maps (H, W) by the number of their image, a shard read once."""
    found: dict[int, np.ndarray] = {}
    for start in dict.fromkeys(place // size * size for place in sorted(places)):
        maps = maps_of(pair, start)
        if maps is not None:
            found |= {place: maps[place - start, 0] for place in sorted(set(places)) if start <= place < start + size}
    return found

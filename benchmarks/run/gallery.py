"""Build the gallery of a run: a few images of all classes under every explainer, and examples for each pair.

Examples are the best, the median and the worst image of the network's own explainer against another one. They are known
only once all is scored (`statistics.analysis.images_to_keep`). Maps are those of the first training seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.run.selection import SelectedImages
from benchmarks.store.gallery import Gallery, Pair

MapsOf = Callable[[Pair, int], np.ndarray | None]


def build_gallery(
    selected: SelectedImages,
    classes: Sequence[str],
    pairs: Sequence[Pair],
    examples: Mapping[Pair, Sequence[str]],
    count: int,
    maps_of: MapsOf,
) -> Gallery:
    """Collect the images and maps that the report shows.

    Args:
        selected: the images that were explained.
        classes: names of the targets.
        pairs: (model, explainer) of the run.
        examples: ids of further images of each pair.
        count: number of images that every pair shows, the first ones of the classes in turn.
        maps_of: returns the maps (N, 1, H, W) of a pair and the shard that begins with an image, or None.
    """
    number_of = {image_id: number for number, image_id in enumerate(selected.ids)}
    overview = classes_in_turn(selected.split.targets[selected.indices], count)
    maps: dict[Pair, dict[int, np.ndarray]] = {}
    for pair in pairs:
        further = [number_of[image_id] for image_id in examples.get(pair, []) if image_id in number_of]
        pair_maps = _read_maps(pair, {*overview, *further}, selected.shard_size, maps_of)
        if pair_maps:
            maps[pair] = pair_maps
    numbers = sorted({*overview, *(number for pair_maps in maps.values() for number in pair_maps)})
    row = {number: i for i, number in enumerate(numbers)}
    images = selected.take(numbers)
    return Gallery(
        images.images.transpose(0, 2, 3, 1),
        images.masks[:, 0],
        images.ids,
        [classes[target] for target in images.targets],
        {pair: np.stack(list(pair_maps.values())) for pair, pair_maps in maps.items()},
        {pair: np.array([row[number] for number in pair_maps]) for pair, pair_maps in maps.items()},
    )


def classes_in_turn(targets: np.ndarray, count: int) -> list[int]:
    """Return the numbers of the first image of each class, then of the second ones, at most `count`, in order.

    Args:
        targets: (n,) classes.
        count: most numbers to return.
    """
    order, occurrences = [], Counter[int]()
    for number, target in enumerate(targets.tolist()):
        order.append((occurrences[target], number))
        occurrences[target] += 1
    return sorted(number for _, number in sorted(order)[:count])


def _read_maps(pair: Pair, numbers: set[int], shard_size: int, maps_of: MapsOf) -> dict[int, np.ndarray]:
    """Return maps (H, W) by the number of their image; every shard is read once."""
    maps: dict[int, np.ndarray] = {}
    for start in dict.fromkeys(number // shard_size * shard_size for number in sorted(numbers)):
        shard_maps = maps_of(pair, start)
        if shard_maps is not None:
            inside = [number for number in sorted(numbers) if start <= number < start + shard_size]
            maps |= {number: shard_maps[number - start, 0] for number in inside}
    return maps

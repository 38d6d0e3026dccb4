"""The images and maps that a run keeps for its report.

The overview shows the same few images under every explainer. The pairs show, for each explainer, the images on which
the network's own explainer is furthest ahead, in the middle and furthest behind. Those are known only once all is
scored, and differ between pairs: so an explainer may have maps of some of the images only, and `rows` says of which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

# A model and an explainer, by name.
Pair = tuple[str, str]

# Maps whose largest magnitude is below this are scaled up: float16 has few bits left for them.
_SMALLEST_FLOAT16 = 2.0**-10


@dataclass(frozen=True)
class Gallery:
    """A few images with the maps that explainers gave for them.

    Attributes:
        images: (n, H, W, 3) uint8.
        masks: (n, H, W) bool evidence; all False where there is none.
        ids: n image ids.
        labels: n class names.
        maps: (model, explainer) to (k, H, W) float32, possibly with NaN.
        rows: (model, explainer) to the positions (k,) of its maps among the n images; a pair that is not there has a
            map of every image, in order.
    """

    images: np.ndarray
    masks: np.ndarray
    ids: list[str]
    labels: list[str]
    maps: dict[Pair, np.ndarray]
    rows: dict[Pair, np.ndarray] = field(default_factory=dict)

    def positions(self, model: str, explainer: str) -> list[int]:
        """Return the positions of the images that an explainer has maps of."""
        pair = model, explainer
        if pair not in self.maps:
            return []
        return [int(position) for position in self.rows.get(pair, range(len(self.maps[pair])))]

    def image_ids(self, model: str, explainer: str) -> set[str]:
        """Return the ids of the images that an explainer has maps of."""
        return {self.ids[position] for position in self.positions(model, explainer)}

    def map_of(self, model: str, explainer: str, position: int) -> np.ndarray:
        """Return the map (H, W) of one image.

        Raises:
            KeyError: the gallery does not have it.
        """
        positions = self.positions(model, explainer)
        if position not in positions:
            raise KeyError(f"no map of {explainer} on {model} was kept for image {self.ids[position]}")
        return np.asarray(self.maps[model, explainer][positions.index(position)])

    def shared_positions(self, model: str) -> list[int]:
        """Return the positions of the images that every explainer of a model has a map of, in order."""
        sets = [set(self.positions(*pair)) for pair in self.maps if pair[0] == model]
        return sorted(set.intersection(*sets)) if sets else []

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return named arrays for `numpy.savez_compressed`; `from_arrays` reads them.

        Maps become float16. One beyond its range is divided by its own largest magnitude, as it is for a picture.
        """
        arrays: dict[str, np.ndarray] = {
            "images": self.images, "masks": self.masks, "ids": np.array(self.ids), "labels": np.array(self.labels),
        }  # fmt: skip
        for (model, explainer), maps in self.maps.items():
            arrays[f"map::{model}::{explainer}"] = _to_float16(maps)
        for (model, explainer), positions in self.rows.items():
            arrays[f"rows::{model}::{explainer}"] = np.asarray(positions, dtype=np.int64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Gallery:
        """Build a gallery from the arrays of `to_arrays`.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays are not of the same number of images.
        """

        def by_pair(prefix: str) -> dict[Pair, np.ndarray]:
            selected = {}
            for name, values in arrays.items():
                head, _, pair = name.partition("::")
                model, _, explainer = pair.partition("::")
                if head == prefix:
                    selected[model, explainer] = values
            return selected

        maps = {pair: values.astype(np.float32) for pair, values in by_pair("map").items()}
        rows = by_pair("rows")
        _check_shapes(arrays, maps, rows)
        ids, labels = arrays["ids"].tolist(), arrays["labels"].tolist()
        return cls(arrays["images"], arrays["masks"], ids, labels, maps, rows)


def _check_shapes(arrays: Mapping[str, np.ndarray], maps: dict[Pair, np.ndarray], rows: dict[Pair, np.ndarray]) -> None:
    """Check that arrays belong together; see `Gallery`."""
    n, *size = arrays["images"].shape[:3] or (0,)
    shapes = {"images": (n, *size, 3), "masks": (n, *size), "ids": (n,), "labels": (n,)}
    odd = next((name for name, shape in shapes.items() if arrays[name].shape != shape), None)
    if odd:
        raise ValueError(f"{odd} has shape {arrays[odd].shape}, not {shapes[odd]}")
    for pair, values in maps.items():
        positions = rows.get(pair, np.arange(len(values)) if values.ndim else np.arange(0))
        is_whole = values.ndim == 3 and positions.shape == values.shape[:1] and positions.dtype.kind in "iu"
        if not is_whole or not ((positions >= 0) & (positions < n)).all():
            raise ValueError(f"the maps of {pair[1]} on {pair[0]} are not of its {n} images")


def _to_float16(maps: np.ndarray) -> np.ndarray:
    """Convert maps (n, H, W), those beyond the range of float16 divided by their largest magnitude."""
    largest = np.where(np.isfinite(maps), np.abs(maps), 0).max(axis=(1, 2), initial=0)
    beyond = (largest > float(np.finfo(np.float16).max)) | ((largest < _SMALLEST_FLOAT16) & (largest > 0))
    return (maps / np.where(beyond, largest, 1)[:, None, None]).astype(np.float16)

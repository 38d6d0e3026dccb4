"""The gallery: what a run keeps of its images and maps for the report.

Two needs meet here. The overview shows the same few images under every explainer. The pairs show, for each explainer,
the images on which the network's own is furthest ahead, in the middle and furthest behind, which are known only once
all is scored and are others for each pair. So maps may be kept for some images only: `rows` says for which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Pair = tuple[str, str]

_SMALL = 2.0**-10


@dataclass(frozen=True)
class Gallery:
    """A few images with the maps explainers gave for them.

    Attributes:
        images: (n, H, W, 3) uint8.
        masks: (n, H, W) bool evidence; all False where there is none.
        ids: n image ids.
        labels: n class names.
        maps: (model, explainer) to (k, H, W) float32, possibly with NaN.
        rows: (model, explainer) to the places (k,) among the n images that its maps belong to; a pair that is not there
            has a map of every image, in order.
    """

    images: np.ndarray
    masks: np.ndarray
    ids: list[str]
    labels: list[str]
    maps: dict[Pair, np.ndarray]
    rows: dict[Pair, np.ndarray] = field(default_factory=dict)

    def places(self, model: str, explainer: str) -> list[int]:
        """Places of the images that this explainer has maps of."""
        pair = model, explainer
        if pair not in self.maps:
            return []
        return [int(place) for place in self.rows.get(pair, range(len(self.maps[pair])))]

    def kept(self, model: str, explainer: str) -> set[str]:
        """Ids of the images that this explainer has maps of."""
        return {self.ids[place] for place in self.places(model, explainer)}

    def map_of(self, model: str, explainer: str, place: int) -> np.ndarray:
        """Map (H, W) of the image at `place`.

        Raises:
            KeyError: it was not kept.
        """
        places = self.places(model, explainer)
        if place not in places:
            raise KeyError(f"no map of {explainer} on {model} was kept for image {self.ids[place]}")
        return np.asarray(self.maps[model, explainer][places.index(place)])

    def shared(self, model: str) -> list[int]:
        """Places of the images that every explainer of the model has a map of, in order."""
        sets = [set(self.places(*pair)) for pair in self.maps if pair[0] == model]
        return sorted(set.intersection(*sets)) if sets else []

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as named arrays for `numpy.savez_compressed`; `from_arrays` brings it back.

        Maps as float16; what that cannot hold is in units of its own largest magnitude, as pictures of it are anyway.
        """
        named: dict[str, np.ndarray] = {
            "images": self.images, "masks": self.masks, "ids": np.array(self.ids), "labels": np.array(self.labels),
        }  # fmt: skip
        for (model, explainer), maps in self.maps.items():
            named[f"map::{model}::{explainer}"] = _half(maps)
        for (model, explainer), places in self.rows.items():
            named[f"rows::{model}::{explainer}"] = np.asarray(places, dtype=np.int64)
        return named

    @classmethod
    def from_arrays(cls, named: Mapping[str, np.ndarray]) -> Gallery:
        """From what `arrays` gave.

        Raises:
            KeyError: something is missing.
        """

        def part(kind: str) -> dict[Pair, np.ndarray]:
            found = {}
            for name, values in named.items():
                head, _, pair = name.partition("::")
                model, _, explainer = pair.partition("::")
                if head == kind:
                    found[model, explainer] = values
            return found

        maps = {pair: values.astype(np.float32) for pair, values in part("map").items()}
        ids, labels = named["ids"].tolist(), named["labels"].tolist()
        return cls(named["images"], named["masks"], ids, labels, maps, part("rows"))


def _half(maps: np.ndarray) -> np.ndarray:
    """Maps (n, H, W) as float16; those beyond its range, or so small that few of its bits are left, divided down."""
    largest = np.where(np.isfinite(maps), np.abs(maps), 0).max(axis=(1, 2), initial=0)
    beyond = (largest > float(np.finfo(np.float16).max)) | ((largest < _SMALL) & (largest > 0))
    return (maps / np.where(beyond, largest, 1)[:, None, None]).astype(np.float16)
